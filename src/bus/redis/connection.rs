//! The connection to the primary: finds it, by Sentinel or through a cluster, authenticates, and exchanges
//! commands for answers.
//!
//! Used by `writer` and `reader`, each with one of its own. Connects when it is called. A connection is put back
//! only after every answer to it has been read, so that no answer is ever taken for that of another call.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use super::fault::{fault, of_answer, of_connecting, of_waiting, unexpected};
use super::reply::{array, info_field, text};
use super::resolve::Resolver;
use super::scripts::{Keys, Script};
use super::stream::{End, Stream};
use super::tls::{BusTlsError, client_config};
use super::wire::{Answers, Command, Malformed, Value, decoded, error_code};
use crate::bus::engine::{Fault, FaultKind};
use crate::config::{BusAddress, BusConfig, HostPort, Secret};
use crate::foreign_text::Secrets;
use crate::limits::{BUS_ANSWER_OVERHEAD_BYTES, BUS_CONNECT_MS_MAX, BUS_REDIRECTS_MAX};

/// The way to the engine, and the connection if there is one.
pub(super) struct Engine {
    address: BusAddress,
    password: Option<Secret>,
    tls: Option<Arc<ClientConfig>>,
    pub(super) keys: Keys,
    pub(super) secrets: Secrets,
    resolver: Resolver,
    /// The Sentinel to ask first: the one that answered last.
    sentinel: usize,
    connection: Option<Connection>,
}

/// A connection to a server of Redis.
pub(super) struct Connection {
    stream: Stream,
    answers: Answers,
}

/// Where a server of a cluster says that the keys are.
enum Greeting {
    Here,
    At(HostPort),
}

impl Connection {
    /// Sends commands. After an error the connection must not be used any more.
    pub(super) fn send(&mut self, request: &[u8], deadline: Instant) -> std::io::Result<()> {
        self.stream.until(deadline, 0).send(request)
    }

    /// Reads one answer of at most `bytes_max`, give or take what was read with the answer before. After a fault the
    /// connection must not be used any more.
    pub(super) fn receive(
        &mut self,
        deadline: Instant,
        bytes_max: usize,
        secrets: &Secrets,
    ) -> Result<Value, Fault> {
        let end = self.await_answer(deadline, bytes_max, secrets)?;
        self.answers.take(end, decoded).map_err(malformed)
    }

    /// Reads until there is an answer whole; returns its length.
    fn await_answer(
        &mut self,
        deadline: Instant,
        bytes_max: usize,
        secrets: &Secrets,
    ) -> Result<usize, Fault> {
        let mut call = self.stream.until(deadline, bytes_max);
        loop {
            if let Some(end) = self.answers.find().map_err(malformed)? {
                return Ok(end);
            }
            let length = call
                .receive(self.answers.space())
                .map_err(|end| match end {
                    End::Failed(error) => of_waiting(&error, secrets),
                    End::TooLong => unexpected(&format!("it is longer than {bytes_max} bytes")),
                })?;
            self.answers.add(length);
        }
    }
}

fn malformed(Malformed(why): Malformed) -> Fault {
    unexpected(why)
}

impl Engine {
    pub(super) fn new(config: &BusConfig) -> Result<Engine, BusTlsError> {
        let password = config.password.as_ref().map_or("", Secret::expose);
        Ok(Engine {
            tls: client_config(config)?,
            keys: Keys::new(&config.address.name),
            secrets: Secrets::default().with(password),
            address: config.address.clone(),
            password: config.password.clone(),
            resolver: Resolver::default(),
            sentinel: 0,
            connection: None,
        })
    }

    /// A connection to the primary. It is not kept: see [`Engine::keep`].
    pub(super) fn connected(&mut self, deadline: Instant) -> Result<Connection, Fault> {
        if let Some(mut connection) = self.connection.take()
            && !connection.stream.is_closed()
        {
            return Ok(connection);
        }
        self.connect(deadline)
    }

    /// Drops the connection.
    pub(super) fn disconnect(&mut self) {
        self.connection = None;
    }

    /// Keeps a connection whose answers have all been read, unless something has come unasked with them.
    pub(super) fn keep(&mut self, connection: Connection) {
        if connection.answers.is_empty() {
            self.connection = Some(connection);
        }
    }

    /// The answer to one command, which is not an error.
    pub(super) fn ask(
        &mut self,
        command: &Command,
        deadline: Instant,
        bytes_max: usize,
    ) -> Result<Value, Fault> {
        let answer = self.exchange(command, deadline, bytes_max)?;
        self.accept(answer)
    }

    /// The same, but `read` takes the answer from its bytes.
    pub(super) fn ask_for<T>(
        &mut self,
        command: &Command,
        deadline: Instant,
        bytes_max: usize,
        read: impl FnOnce(&[u8]) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut connection = self.connected(deadline)?;
        connection
            .send(&command.to_request(), deadline)
            .map_err(|error| of_waiting(&error, &self.secrets))?;
        let end = connection.await_answer(deadline, bytes_max, &self.secrets)?;
        let taken = connection.answers.take(end, |answer| match answer {
            [b'-', ..] => Err(decoded(answer).map_err(malformed)),
            answer => Ok(read(answer)),
        });
        self.keep(connection);
        match taken {
            Ok(taken) => taken,
            Err(error) => Err(match self.accept(error?) {
                Err(fault) => fault,
                Ok(_) => unexpected("an error"),
            }),
        }
    }

    /// The answer to a script. Its text is sent only if the engine does not have it.
    pub(super) fn run(
        &mut self,
        script: &Script,
        keys: &[&str],
        fill: impl Fn(&mut Command),
        deadline: Instant,
    ) -> Result<Value, Fault> {
        let mut answer = Value::Null;
        for with_text in [false, true] {
            let mut command = script.command(keys, with_text);
            fill(&mut command);
            answer = self.exchange(&command, deadline, BUS_ANSWER_OVERHEAD_BYTES)?;
            if !is_unknown_script(&answer) {
                break;
            }
        }
        self.accept(answer)
    }

    fn exchange(
        &mut self,
        command: &Command,
        deadline: Instant,
        bytes_max: usize,
    ) -> Result<Value, Fault> {
        let mut connection = self.connected(deadline)?;
        connection
            .send(&command.to_request(), deadline)
            .map_err(|error| of_waiting(&error, &self.secrets))?;
        let answer = connection.receive(deadline, bytes_max, &self.secrets)?;
        self.keep(connection);
        Ok(answer)
    }

    /// Turns an error answer into a fault. If another server may answer better, the next call connects anew.
    pub(super) fn accept(&mut self, answer: Value) -> Result<Value, Fault> {
        let Value::Error(error) = answer else {
            return Ok(answer);
        };
        let fault = of_answer(&error, &self.secrets);
        if matches!(fault.kind, FaultKind::NotPrimary | FaultKind::Denied) {
            self.connection = None;
        }
        Err(fault)
    }

    fn connect(&mut self, deadline: Instant) -> Result<Connection, Fault> {
        let longest = Instant::now() + Duration::from_millis(BUS_CONNECT_MS_MAX);
        let deadline = deadline.min(longest);
        let connected = match self.address.master.clone() {
            None => {
                let host = self.address.hosts[0].clone();
                self.connect_primary(host, deadline)
            }
            Some(master) => self.connect_by_sentinel(&master, deadline),
        };
        // The caller's command has not been sent.
        connected.map_err(|fault| match fault.kind {
            FaultKind::Lost => Fault {
                kind: FaultKind::Unreachable,
                ..fault
            },
            _ => fault,
        })
    }

    /// Asks the Sentinels in turn, until one names a server that is the primary.
    fn connect_by_sentinel(
        &mut self,
        master: &str,
        deadline: Instant,
    ) -> Result<Connection, Fault> {
        let count = self.address.hosts.len();
        let mut first_fault = None;
        for nth in 0..count {
            let index = (self.sentinel + nth) % count;
            let sentinel = self.address.hosts[index].clone();
            // The others and the primary need time, too.
            let left = deadline.saturating_duration_since(Instant::now());
            let part = Instant::now() + left / (count - nth + 1) as u32;
            let connected = self
                .ask_sentinel(&sentinel, master, part)
                .and_then(|primary| self.connect_primary(primary, deadline));
            match connected {
                Ok(connection) => {
                    self.sentinel = index;
                    return Ok(connection);
                }
                Err(fault) => first_fault = first_fault.or(Some(fault)),
            }
        }
        // Another one has more time at the next call.
        self.sentinel = (self.sentinel + 1) % count;
        Err(first_fault.unwrap_or_else(|| unexpected("there is no Sentinel")))
    }

    /// The address of the primary, as a Sentinel knows it.
    fn ask_sentinel(
        &mut self,
        sentinel: &HostPort,
        master: &str,
        deadline: Instant,
    ) -> Result<HostPort, Fault> {
        let at_sentinel = |fault: Fault| Fault {
            text: format!("Sentinel: {}", fault.text),
            ..fault
        };
        let mut connection = self.open(sentinel, deadline).map_err(at_sentinel)?;
        let mut ask = Command::new("SENTINEL");
        ask.arg("get-master-addr-by-name").arg(master);
        let mut answer = self.first_answer(&mut connection, &ask, deadline)?;
        if let (Value::Error(error), Some(auth)) = (&answer, self.auth())
            && error_code(error) == "NOAUTH"
        {
            answer = self.first_answer(&mut connection, &auth, deadline)?;
            if !matches!(answer, Value::Error(_)) {
                answer = self.first_answer(&mut connection, &ask, deadline)?;
            }
        }
        match &answer {
            Value::Error(error) => Err(at_sentinel(of_answer(error, &self.secrets))),
            Value::Null => Err(fault(
                FaultKind::Unreachable,
                "the Sentinel does not know a primary of this name: see MASTER in --bus",
            )),
            answer => match array(answer) {
                Some([host, port]) => text(host)
                    .zip(text(port))
                    .and_then(|(host, port)| host_port(host, port))
                    .ok_or_else(|| unexpected("the Sentinel's address of the primary")),
                _ => Err(unexpected("the Sentinel's address of the primary")),
            },
        }
    }

    fn first_answer(
        &self,
        connection: &mut Connection,
        command: &Command,
        deadline: Instant,
    ) -> Result<Value, Fault> {
        connection
            .send(&command.to_request(), deadline)
            .map_err(|error| of_waiting(&error, &self.secrets))?;
        connection.receive(deadline, BUS_ANSWER_OVERHEAD_BYTES, &self.secrets)
    }

    /// A connection to a server that is the primary, and has the keys if it is one of a cluster.
    fn connect_primary(
        &mut self,
        mut host: HostPort,
        deadline: Instant,
    ) -> Result<Connection, Fault> {
        for _ in 0..=BUS_REDIRECTS_MAX {
            let mut connection = self.open(&host, deadline)?;
            match self.greet(&mut connection, &host, deadline)? {
                Greeting::Here => return Ok(connection),
                Greeting::At(other) => host = other,
            }
        }
        let text = "the nodes of the cluster name each other for the keys";
        Err(fault(FaultKind::NotPrimary, text))
    }

    /// Authenticates, and checks that the server is the primary of the keys.
    fn greet(
        &self,
        connection: &mut Connection,
        host: &HostPort,
        deadline: Instant,
    ) -> Result<Greeting, Fault> {
        let mut info = Command::new("INFO");
        info.arg("replication");
        // Any command with a key shows whether the keys are here.
        let mut find = Command::new("HGET");
        find.arg(&self.keys.record).arg("epoch");
        let commands: Vec<Command> = self.auth().into_iter().chain([info, find]).collect();
        let mut request = Vec::new();
        for command in &commands {
            command.write_to(&mut request);
        }
        connection
            .send(&request, deadline)
            .map_err(|error| of_waiting(&error, &self.secrets))?;
        let mut answers = Vec::new();
        for _ in &commands {
            answers.push(connection.receive(deadline, BUS_ANSWER_OVERHEAD_BYTES, &self.secrets)?);
        }
        let (found, before) = answers.split_last().ok_or_else(|| unexpected("nothing"))?;
        for answer in before {
            if let Value::Error(error) = answer {
                return Err(of_answer(error, &self.secrets));
            }
        }
        if let Value::Error(error) = found {
            if error_code(error) == "MOVED" {
                let other = moved_to(error, host);
                return other
                    .map(Greeting::At)
                    .ok_or_else(|| unexpected("the cluster's address of the keys"));
            }
            let fault = of_answer(error, &self.secrets);
            // A key of another type is named by the calls that need it.
            if fault.kind != FaultKind::Unusable {
                return Err(fault);
            }
        }
        let info = before.last().and_then(text).unwrap_or_default();
        match info_field(info, "role") {
            Some("master") => Ok(Greeting::Here),
            Some(_) => Err(fault(FaultKind::NotPrimary, "the engine is a replica")),
            None => Err(unexpected("its role")),
        }
    }

    fn auth(&self) -> Option<Command> {
        let password = self.password.as_ref()?;
        let mut auth = Command::new("AUTH");
        if let Some(user) = &self.address.user {
            auth.arg(user);
        }
        auth.arg(password.expose());
        Some(auth)
    }

    /// Opens a connection to a server, the first of its addresses that takes one.
    fn open(&mut self, host: &HostPort, deadline: Instant) -> Result<Connection, Fault> {
        let failed = |error: std::io::Error| of_connecting(&error, &self.secrets);
        let addresses = self.resolver.addresses(host, deadline).map_err(failed)?;
        let count = addresses.len();
        let mut last_error = std::io::ErrorKind::NotFound.into();
        for (nth, address) in addresses.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let part = left / (count - nth) as u32;
            if part.is_zero() {
                last_error = std::io::ErrorKind::TimedOut.into();
                break;
            }
            let opened = TcpStream::connect_timeout(address, part).and_then(|socket| {
                socket.set_nodelay(true)?;
                match &self.tls {
                    None => Ok(Stream::plain(socket)),
                    Some(tls) => Stream::with_tls(socket, &host.host, tls, deadline),
                }
            });
            match opened {
                Ok(stream) => {
                    return Ok(Connection {
                        stream,
                        answers: Answers::default(),
                    });
                }
                Err(error) => last_error = error,
            }
        }
        Err(failed(last_error))
    }
}

/// Whether the engine does not have the text of a script.
pub(super) fn is_unknown_script(answer: &Value) -> bool {
    matches!(answer, Value::Error(error) if error_code(error) == "NOSCRIPT")
}

/// The place in `MOVED <slot> <host>:<port>`. Without a host it is the same one; an IPv6 address has no brackets.
fn moved_to(error: &str, from: &HostPort) -> Option<HostPort> {
    let (_, place) = error.split_once(' ')?.1.split_once(' ')?;
    let (host, port) = place.trim().rsplit_once(':')?;
    match host {
        "" | "?" => host_port(&from.host, port),
        host => host_port(host, port),
    }
}

fn host_port(host: &str, port: &str) -> Option<HostPort> {
    let host = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    HostPort::parse(&host, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_the_keys_is_read_from_the_clusters_answer() {
        let from = HostPort {
            host: "entry".into(),
            port: 1,
        };
        let to = |error: &str| moved_to(error, &from).map(|host| host.to_string());
        assert_eq!(
            to("MOVED 3999 10.0.0.1:6381").as_deref(),
            Some("10.0.0.1:6381")
        );
        assert_eq!(to("MOVED 3999 :6381").as_deref(), Some("entry:6381"));
        assert_eq!(to("MOVED 3999 ?:6381").as_deref(), Some("entry:6381"));
        assert_eq!(to("MOVED 3999 ::1:6381").as_deref(), Some("[::1]:6381"));
        assert_eq!(
            to("MOVED 3999 host.example:6381").as_deref(),
            Some("host.example:6381")
        );
        for text in [
            "",
            " 3999",
            " 3999 a",
            " 3999 a:x",
            " 3999 a:0",
            " 3999 a b:1",
        ] {
            let text = format!("MOVED{text}");
            assert_eq!(to(&text), None, "{text}");
        }
    }
}
