//! Warnings about settings that are valid but probably unintended: see [`Config::warnings`].
//!
//! Used when the configuration is built, and for the addresses once these are known. Never refuses a
//! setting.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::kv::{ACCOUNT_VARIABLE, NAMESPACE_VARIABLE, TOKEN_VARIABLE};
use super::value::is_loopback_host;
use super::{BusConfig, Config, Environment, HostPort, Listen, Secret, files_reserved, hints};

/// Warnings about unprotected addresses that other machines can reach.
pub(super) fn of_addresses(
    listen: &[Listen],
    admin: Option<SocketAddr>,
    is_open: bool,
) -> Vec<String> {
    let is_public = |address: &SocketAddr| !address.ip().to_canonical().is_loopback();
    let public = listen.iter().filter_map(Listen::socket_address);
    let mut warnings = Vec::new();
    if let Some(address) = public.filter(|_| is_open).find(is_public) {
        warnings.push(format!(
            "listening on {address} with no secret: every client that reaches it can send messages and \
             read all of them; set --secret-file or WEBHOOK_SECRET"
        ));
    }
    if let Some(admin) = admin.filter(is_public) {
        warnings.push(format!(
            "the admin address {admin} has no access control and can be reached from other machines; use \
             a loopback address"
        ));
    }
    warnings
}

/// Warnings that concern no address.
pub(super) fn of(config: &Config, matches: &ArgMatches, environment: &Environment) -> Vec<String> {
    let mut warnings = Vec::new();
    let room = config.file_limit - files_reserved(config.file_limit);
    if config.connections_max as u64 > room {
        warnings.push(format!(
            "--max-connections {} is more than the limit of {} open files leaves room for ({room}); \
             raise the hard limit (LimitNOFILE= in systemd, ulimit -Hn in a shell)",
            config.connections_max, config.file_limit
        ));
    }
    if config.accepts_any_webhook() {
        warnings.push(
            "--token-key without a secret and without --require-token: tokens restrict what clients read, but \
             every client can send messages; set --secret-file, WEBHOOK_SECRET or --require-token"
                .to_owned(),
        );
    }
    let oddity = config.secret.as_ref().and_then(Secret::oddity);
    warnings.extend(oddity.map(|oddity| format!("the secret of the webhooks {oddity}")));
    if let Some(kv) = config.kv.as_ref().filter(|kv| kv.endpoint.is_exposed()) {
        warnings.push(format!(
            "--kv-endpoint {} sends the API token over the network in clear text; use https",
            kv.endpoint.as_str()
        ));
    }
    if config.kv.is_none() {
        warnings.extend(flags_given(matches, "kv_").map(|flag| {
            format!("{flag} has no effect: {ACCOUNT_VARIABLE}, {TOKEN_VARIABLE} and {NAMESPACE_VARIABLE} are not set")
        }));
    }
    match &config.bus {
        None => warnings.extend(
            flags_given(matches, "bus_")
                .map(|flag| format!("{flag} has no effect: --bus is not given")),
        ),
        Some(bus) if is_exposed(bus) => warnings.push(format!(
            "--bus {} sends the password and all messages over the network in clear text; use rediss:// where \
             that network is not private",
            bus.address
        )),
        Some(_) => {}
    }
    warnings.extend(unknown_variables(environment).map(|name| {
        let advice = match hints::of_variable(name) {
            Some(meant) => format!("did you mean {meant}?"),
            None => "see --help for those that are".to_owned(),
        };
        let name = name.escape_debug();
        format!("{name} is no setting of hookcast and has no effect; {advice}")
    }));
    warnings
}

/// Whether the password of the bus and all messages can be read on their way.
fn is_exposed(bus: &BusConfig) -> bool {
    let is_here = |host: &HostPort| is_loopback_host(&host.host);
    bus.password.is_some() && !bus.address.tls && !bus.address.hosts.iter().all(is_here)
}

/// The flags of a group that were given, on the command line or in the environment.
fn flags_given<'a>(matches: &'a ArgMatches, prefix: &'a str) -> impl Iterator<Item = String> + 'a {
    matches
        .ids()
        .map(clap::Id::as_str)
        .filter(move |id| id.starts_with(prefix))
        .filter(|id| {
            matches!(
                matches.value_source(id),
                Some(ValueSource::CommandLine | ValueSource::EnvVariable)
            )
        })
        .map(|id| format!("--{}", id.replace('_', "-")))
}

/// Unknown variables that begin with `HOOKCAST_`. Those that Kubernetes sets for a service called
/// hookcast are excluded: `HOOKCAST_SERVICE_HOST`, `HOOKCAST_PORT=tcp://…`, `HOOKCAST_PORT_80_TCP`.
fn unknown_variables(environment: &Environment) -> impl Iterator<Item = &str> {
    let known: Vec<OsString> = hints::variables().collect();
    let is_of_kubernetes = |name: &str, value: &OsStr| {
        name.starts_with("HOOKCAST_SERVICE_")
            || name.starts_with("HOOKCAST_PORT_")
            || name == "HOOKCAST_PORT" && value.to_string_lossy().contains("://")
    };
    environment
        .0
        .iter()
        .filter(move |(name, _)| !known.contains(name))
        .filter_map(|(name, value)| Some((name.to_str()?, value)))
        .filter(|(name, _)| name.starts_with("HOOKCAST_"))
        .filter(move |(name, value)| !is_of_kubernetes(name, value))
        .map(|(name, _)| name)
}
