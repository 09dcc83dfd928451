//! The sections of the man pages that no flag defines: variables, signals, files, exit statuses,
//! examples.
//!
//! Used by `document`. The variables come from the same definitions as the table of settings. Does no I/O.

use std::fmt::Write;

use clap::Command;

use super::args::AFTER_HELP;
use super::kv::{ACCOUNT_VARIABLE, NAMESPACE_VARIABLE, TOKEN_VARIABLE};
use super::table::VARIABLES_ALONE;
use super::{RING_FILE_DEFAULT, SECRET_VARIABLE};

/// Variables that are not settings of hookcast: a service manager sets them, or all HTTP clients
/// use them.
const VARIABLES_OF_OTHERS: [(&str, &str); 5] = [
    (
        "LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES",
        "Sockets that a service manager passes (sd_listen_fds(3)). They are used in place of --listen, \
         and one with the name admin in place of --admin; another address there is an error.",
    ),
    (
        "NOTIFY_SOCKET",
        "Where readiness, reloads, the end and its reason are sent (sd_notify(3)).",
    ),
    (
        "WATCHDOG_USEC, WATCHDOG_PID",
        "The interval of watchdog messages, which are sent only while all serving threads make progress.",
    ),
    (
        "JOURNAL_STREAM",
        "If standard error is the journal's, each line begins with its priority and has no time.",
    ),
    (
        "ALL_PROXY, HTTPS_PROXY, HTTP_PROXY, NO_PROXY",
        "Proxies for calls to Cloudflare and of doctor, as in curl(1); each may be in lower case.",
    ),
];

const SIGNALS: [(&str, &str); 4] = [
    (
        "SIGTERM, SIGINT",
        "Drain: accept no more, answer requests in flight, end streams over the time of --drain, sync \
         with KV, exit with 0. A second one ends at once.",
    ),
    (
        "SIGUSR2",
        "Hand over: start the installed program with the same arguments and variables, and pass on \
         sockets, ring and connections; streams end and resume. If the new process fails, this one \
         continues.",
    ),
    (
        "SIGHUP",
        "Read the certificate and its key again, where a listener has +tls, the files of --token-key, and the \
         file of --sources with its secrets. A file with faults changes nothing. Streams end if the key of \
         their token is gone. Without +tls, --token-key and --sources it ends the process.",
    ),
    ("SIGPIPE", "Ignored."),
];

const FILES: [(&str, &str); 7] = [
    (
        RING_FILE_DEFAULT,
        "The ring, in $STATE_DIRECTORY or the working directory; that of the package's service is in \
         /var/lib/hookcast. A damaged ring is kept beside it as hookcast.ring.corrupt-TIME.",
    ),
    (
        "/etc/default/hookcast",
        "Variables of the package's service; only root can read it, since secrets are among them.",
    ),
    (
        "the file of --sources",
        "A table for each source: its preset, the files of its secrets, and what is published. Its user \
         must be able to read the secrets; nobody else should.",
    ),
    (
        "the files of --token-key",
        "Keys that sign tokens. A public key may be read by everyone; the secret of HS256 only by the \
         server and the issuer, since it makes tokens.",
    ),
    (
        "/lib/systemd/system/hookcast.service",
        "The service. Change it with: systemctl edit hookcast",
    ),
    (
        "/lib/systemd/system/hookcast.socket",
        "The address to serve. Change it with: systemctl edit hookcast.socket",
    ),
    (
        "/lib/systemd/system/hookcast-admin.socket",
        "The address of metrics and health; off until: systemctl enable hookcast-admin.socket, and then \
         systemctl restart hookcast",
    ),
];

const EXIT_STATUSES: [(&str, &str); 3] = [
    ("0", "Drained after a signal, or handed over."),
    (
        "1",
        "The server cannot start or continue: an address is in use, the ring cannot be opened, a thread \
         failed. Another start may succeed.",
    ),
    (
        "2",
        "The configuration is wrong. Every start fails until it is corrected.",
    ),
];

const EXIT_STATUSES_OF_COMMANDS: [(&str, &str); 3] = [
    ("0", "No check failed."),
    ("1", "A check failed."),
    ("2", "The command line or a variable is wrong."),
];

/// The sections of hookcast(1).
pub(super) fn of_server(command: &Command) -> String {
    let mut text = String::from(".SH ENVIRONMENT\n");
    text += &paragraph(
        "Every flag has a variable; where both are given, the flag wins. Lists are separated by commas. \
         Durations read 2s, 500ms, 1m30s.",
    );
    for argument in command.get_arguments() {
        if let (Some(variable), Some(flag)) = (argument.get_env(), argument.get_long()) {
            let meaning = argument.get_help().map(ToString::to_string);
            let meaning = format!("--{flag}: {}", meaning.unwrap_or_default());
            text += &entry(&variable.to_string_lossy(), &meaning);
        }
    }
    text += &list(&VARIABLES_ALONE);
    text += ".SS Variables of the service manager and of HTTP clients\n";
    text += &list(&VARIABLES_OF_OTHERS);
    text += ".SH SIGNALS\n";
    text += &list(&SIGNALS);
    text += ".SH FILES\n";
    text += &list(&FILES);
    text += ".SH \"EXIT STATUS\"\n";
    text += &list(&EXIT_STATUSES);
    text += ".SH EXAMPLES\n.nf\n";
    let (_, examples) = AFTER_HELP.split_once("Examples:\n").unwrap_or_default();
    for line in examples.lines() {
        let _ = writeln!(text, "{}", escape(line));
    }
    text += ".fi\n.SH SEE ALSO\n";
    let commands = command.get_subcommands().map(Command::get_name);
    for name in commands.filter(|name| !["man", "completions"].contains(name)) {
        let _ = writeln!(text, ".BR {} (1),", escape(&format!("hookcast-{name}")));
    }
    text += ".BR systemctl (1),\n.BR systemd.socket (5),\n.BR curl (1)\n";
    text
}

/// The sections of a command's page.
pub(super) fn of_command(name: &str) -> String {
    let mut text = String::from(".SH ENVIRONMENT\n");
    text += &paragraph("The variables of the flags above, and:");
    let kv = [ACCOUNT_VARIABLE, TOKEN_VARIABLE, NAMESPACE_VARIABLE];
    let concerns = |variable: &str| match name {
        "kv-check" => kv.contains(&variable),
        "doctor" => variable == SECRET_VARIABLE,
        _ => false,
    };
    for (variable, meaning) in VARIABLES_ALONE {
        if concerns(variable) {
            text += &entry(variable, meaning);
        }
    }
    if name == "health" {
        let meaning = "The addresses of the server, in the same variables as the server's.";
        text += &entry("HOOKCAST_ADMIN, HOOKCAST_LISTEN", meaning);
    }
    let [.., proxies] = VARIABLES_OF_OTHERS;
    text += &entry(proxies.0, proxies.1);
    text += ".SH \"EXIT STATUS\"\n";
    text += &list(&EXIT_STATUSES_OF_COMMANDS);
    text + ".SH SEE ALSO\n.BR hookcast (1)\n"
}

fn list(entries: &[(&str, &str)]) -> String {
    entries
        .iter()
        .map(|(term, text)| entry(term, text))
        .collect()
}

/// A term in bold, with its text below.
fn entry(term: &str, text: &str) -> String {
    format!(".TP\n.B {}\n{}", escape(term), paragraph(text))
}

fn paragraph(text: &str) -> String {
    format!("{}\n", escape(&text.replace('`', "")))
}

/// Escapes text for roff(7): no character is markup or begins a request, and hyphens can be copied.
fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let text = text.replace('\'', "\\(aq");
    if text.starts_with('.') {
        format!("\\&{text}")
    } else {
        text
    }
}
