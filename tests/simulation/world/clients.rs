//! Operations of clients: they connect, send requests, read and close.

use std::rc::Rc;

use hookcast::shard::poller::Command;

use super::super::client::{Client, NOWHERE};
use super::super::kernel::Link;
use super::super::operation::pick;
use super::super::request::{self, Request, Resumption, TokenSetting};
use super::{ALL, POLLERS_MAX, World, pick_mut};

impl World {
    pub fn connect(&mut self) {
        if let Some(mut client) = self.open() {
            let request = match self.rng.u8(..8) {
                0..=4 => self.draw_subscription(),
                5 | 6 => request::webhook(&mut self.rng, &self.setting, &mut self.model),
                _ => request::other(&mut self.rng, &self.setting),
            };
            client.ask(request, &mut self.model);
            if self.rng.bool() {
                client.link.borrow_mut().deliver(ALL);
            }
            self.clients.push(client);
        }
    }

    pub fn connect_many(&mut self) {
        for _ in 0..self.rng.usize(0..=self.profile.clients_max) {
            let Some(mut client) = self.open() else {
                return;
            };
            client.ask(self.draw_subscription(), &mut self.model);
            client.link.borrow_mut().deliver(ALL);
            self.clients.push(client);
        }
    }

    pub fn close_many(&mut self) {
        let share = self.rng.u8(1..128);
        for client in &self.clients {
            if self.rng.u8(..) < share {
                client.link.borrow_mut().close();
            }
        }
    }

    pub fn nudge(&mut self) {
        if self.rng.u8(..8) > 0 {
            return self.with_client(|client| client.link.borrow_mut().nudge());
        }
        for client in &self.clients {
            client.link.borrow_mut().nudge();
        }
    }

    pub fn fail_add(&mut self) {
        if let Some(client) = self.open() {
            self.fails_add = true;
            self.clients.push(client);
        }
    }

    /// Connects a client: its connection is put into a listener's queue.
    fn open(&mut self) -> Option<Client> {
        self.open_beyond(0)
    }

    /// As [`open`](World::open), with `more` clients above the usual limit.
    fn open_beyond(&mut self, more: usize) -> Option<Client> {
        if self.clients.len() >= self.profile.clients_max + more || self.listeners.is_empty() {
            return None;
        }
        let most = self.profile.buffer_bytes_max;
        let (receive_max, send_max) = (self.rng.usize(32..=most), self.rng.usize(32..=most));
        let link = Link::new(&self.kernel, receive_max, send_max);
        link.borrow_mut().client_reads = self.rng.u8(..8) != 0;
        let listener = pick_mut(&mut self.rng, &mut self.listeners);
        listener.queue.push_back(Rc::clone(&link));
        listener.edge = true;
        self.clients_ever += 1;
        Some(Client::new(self.clients_ever, link))
    }

    /// Closes the listening sockets and resets connections that were not accepted.
    pub fn stop_listening(&mut self) {
        self.listeners.clear();
        let held: Vec<_> = self.in_transit.iter().map(|held| &held.socket.0).collect();
        let is_held = |client: &Client| held.iter().any(|link| Rc::ptr_eq(link, &client.link));
        let is_handed = |client: &Client| {
            let shards = self.node.shards.iter();
            let mut commands = shards.flat_map(|shard| &shard.commands);
            commands.any(|command| match command {
                Command::Connection(socket) | Command::TakeOver(socket, _) => {
                    Rc::ptr_eq(&socket.0, &client.link)
                }
                _ => false,
            })
        };
        self.clients
            .retain(|client| client.shard != NOWHERE || is_held(client) || is_handed(client));
    }

    fn draw_subscription(&mut self) -> Request {
        let resumed = match self.resumptions.len() {
            0 => None,
            count if self.rng.bool() => Some(&self.resumptions[self.rng.usize(..count)]),
            _ => None,
        };
        let unix_ms = self.now().unix_ms;
        self.setting.token = self.profile.has_tokens.then_some(TokenSetting {
            unix_ms,
            key: self.key,
        });
        request::subscription(&mut self.rng, &self.setting, &self.model, resumed)
    }

    /// Draws a request to a source, if there are sources.
    fn draw_source_request(&mut self) -> Option<Request> {
        let is_drawn = self.profile.judging_bytes_max.is_some() && self.rng.u8(..3) == 0;
        is_drawn.then(|| request::to_source(&mut self.rng, &self.setting, &mut self.model))
    }

    pub fn ask(&mut self) {
        let to_source = self.draw_source_request();
        let request = to_source.unwrap_or_else(|| match self.rng.u8(..16) {
            0..=8 => request::webhook(&mut self.rng, &self.setting, &mut self.model),
            9..=12 => request::other(&mut self.rng, &self.setting),
            13 => request::bad(&mut self.rng, &self.setting),
            _ => self.draw_subscription(),
        });
        let (salt, goes_past) = (self.rng.u8(..), self.rng.u8(..8) == 0);
        let asks = |client: &Client| client.may_ask() && (goes_past || !client.is_terminal);
        let Some(place) = self.some_client(asks) else {
            return self.with_client(Client::send_held_body);
        };
        let client = &mut self.clients[place];
        if salt < 20 {
            client.send_empty_line();
        }
        client.ask(request, &mut self.model);
        if salt >= 128 {
            client.link.borrow_mut().deliver(ALL);
        }
    }

    pub fn pipeline(&mut self) {
        let Some(place) = self.some_client(|client| client.may_ask() && !client.is_terminal) else {
            return;
        };
        let is_plain = self.rng.u8(..3) == 0;
        for _ in 0..self.rng.usize(1..40) {
            if !self.clients[place].may_ask() {
                return;
            }
            let to_source = self.draw_source_request();
            let request = to_source.unwrap_or_else(|| match self.rng.u8(..32) {
                _ if is_plain => request::status(),
                0..=15 => request::webhook(&mut self.rng, &self.setting, &mut self.model),
                16 => request::bad(&mut self.rng, &self.setting),
                _ => request::other(&mut self.rng, &self.setting),
            });
            self.clients[place].ask(request, &mut self.model);
        }
        if self.rng.bool() && !self.clients[place].is_terminal && self.clients[place].may_ask() {
            // A stream, and requests behind it that get no answer.
            let request = self.draw_subscription();
            self.clients[place].ask(request, &mut self.model);
            for _ in 0..self.rng.usize(0..40) {
                self.clients[place].ask(request::status(), &mut self.model);
            }
        }
    }

    pub fn poll(&mut self) {
        for _ in 0..self.rng.usize(0..=POLLERS_MAX) {
            let Some(mut client) = self.open_beyond(POLLERS_MAX) else {
                return;
            };
            client.ask(request::history(), &mut self.model);
            client.link.borrow_mut().deliver(ALL);
            self.clients.push(client);
        }
    }

    fn some_client(&mut self, is_fit: impl Fn(&Client) -> bool) -> Option<usize> {
        let fit: Vec<usize> = (0..self.clients.len())
            .filter(|&place| is_fit(&self.clients[place]))
            .collect();
        (!fit.is_empty()).then(|| *pick(&mut self.rng, &fit))
    }

    pub fn with_client<T>(&mut self, act: impl FnOnce(&mut Client) -> T) {
        if let Some(place) = self.some_client(|_| true) {
            act(&mut self.clients[place]);
        }
    }

    pub fn some_bytes(&mut self) -> usize {
        *pick(&mut self.rng, &[1, 7, 100, 1000, 20_000, ALL])
    }

    /// Records how far the stream of a closed connection got, so that a later client can resume it.
    pub fn remember(&mut self, client: &Client) {
        if let (Some(stream), Some(seq)) = (client.stream(), client.last_seq_taken()) {
            self.resumptions.push(Resumption {
                view: stream.spec.view,
                epoch: self.model.epoch.clone(),
                seq,
            });
        }
    }
}
