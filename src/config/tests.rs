//! Tests of the configuration that a command line and an environment yield. The variables that `clap`
//! reads itself are tested with the real binary, in `tests/operations/cli.rs`.

use super::*;

/// Parses flags and variables for a process that may open 20,000 files.
pub(super) fn parse_with(flags: &[&str], variables: &[(&str, &str)]) -> Result<Parsed, String> {
    let arguments: Vec<OsString> = std::iter::once("hookcast")
        .chain(flags.iter().copied())
        .map(OsString::from)
        .collect();
    let environment = Environment(
        variables
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)))
            .collect(),
    );
    parse(&arguments, &environment, 20_000).map_err(|stop| match stop {
        Stop::Help(help) => panic!("help: {help}"),
        Stop::Document(_) => panic!("a document"),
        Stop::Error(error) => error.to_string(),
    })
}

pub(super) fn config(flags: &[&str], variables: &[(&str, &str)]) -> Config {
    parse_with(flags, variables)
        .unwrap_or_else(|error| panic!("{error}"))
        .config
}

pub(super) fn error(flags: &[&str], variables: &[(&str, &str)]) -> String {
    match parse_with(flags, variables) {
        Ok(_) => panic!("{flags:?} {variables:?} is valid"),
        Err(error) => error,
    }
}

const KV: [(&str, &str); 3] = [
    ("CLOUDFLARE_ACCOUNT_ID", "023e105f4ecef8ad9ca31a8372d0c353"),
    ("CLOUDFLARE_API_TOKEN", "t0ken"),
    ("WEBHOOK_KV", "0F2AC74B498B48028CB68387C421E279"),
];

#[test]
fn the_definition_of_the_flags_is_consistent() {
    args::command().debug_assert();
}

#[test]
fn a_server_without_settings_listens_on_loopback_without_warnings() {
    let parsed = parse_with(&[], &[]).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(parsed.action, Action::Serve);
    let config = parsed.config;
    assert_eq!(
        config.listen,
        [Listen::tcp("127.0.0.1:3000".parse().unwrap())]
    );
    assert_eq!(config.ring, Path::new("hookcast.ring"));
    assert_eq!(config.heartbeat_interval, Duration::from_secs(2));
    assert_eq!(config.body_bytes_max, 65_536);
    assert_eq!(config.connections_max, 19_680);
    assert_eq!(config.keep_alive, Duration::from_secs(75));
    assert_eq!(config.drain, Duration::from_secs(5));
    assert_eq!(config.allow_origins, AllowOrigins::Any);
    assert!(config.secret.is_none() && config.kv.is_none() && config.admin.is_none());
    assert_eq!(
        (config.log_format, config.log_level),
        (LogFormat::Text, LogLevel::Info)
    );
    assert!((1..=64).contains(&config.shards));
    assert!(config.warnings().is_empty());
}

#[test]
fn addresses_add_up_and_are_bounded() {
    let listen = config(
        &["--listen", "127.0.0.1:0", "--listen", "[::1]:1,127.0.0.2:2"],
        &[],
    )
    .listen;
    assert_eq!(listen.len(), 3);
    let many = vec!["127.0.0.1:0"; 17].join(",");
    assert!(error(&["--listen", &many], &[]).contains("at most 16"));
    assert!(error(&["--admin", "127.0.0.1:3000"], &[]).contains("cannot share a port"));
    config(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"], &[]);
}

#[test]
fn tls_takes_a_listener_a_certificate_and_a_key() {
    let (listen, cert, key) = (
        &["--listen", "127.0.0.1:0+tls"][..],
        &["--tls-cert", "c"][..],
        &["--tls-key", "k"][..],
    );
    let tls = config(&[listen, cert, key].concat(), &[]).tls.unwrap();
    assert_eq!((tls.cert, tls.client_ca), ("c".into(), None));
    let ca = &["--tls-client-ca", "a"][..];
    assert!(
        config(&[listen, cert, key, ca].concat(), &[])
            .tls
            .unwrap()
            .client_ca
            .is_some()
    );
    assert!(error(listen, &[]).contains("needs --tls-cert"));
    assert!(error(&[listen, cert].concat(), &[]).contains("--tls-key"));
    assert!(error(&[listen, ca].concat(), &[]).contains("--tls-cert"));
    assert!(error(&[cert, key].concat(), &[]).contains("+tls"));
}

#[test]
fn a_listener_for_proxies_needs_their_network() {
    let listen = &["--listen", "127.0.0.1:0+proxy"][..];
    assert!(error(listen, &[]).contains("--trusted-proxy"));
    let trusted = config(
        &[listen, &["--trusted-proxy", "10.0.0.0/8,::1"]].concat(),
        &[],
    );
    assert_eq!(trusted.trusted_proxies.len(), 2);
    assert_eq!(trusted.client_address_header.as_str(), "x-forwarded-for");
    // The mode of a Unix socket controls access to it.
    config(&["--listen", "unix:/run/a+proxy"], &[]);
    let many = vec!["10.0.0.1"; limits::TRUSTED_PROXIES_MAX + 1].join(",");
    assert!(error(&["--trusted-proxy", &many], &[]).contains("at most"));
}

#[test]
fn the_state_directory_applies_to_the_default_ring_only() {
    for (flags, directory, expected) in [
        (
            &[][..],
            "/var/lib/hookcast",
            "/var/lib/hookcast/hookcast.ring",
        ),
        (&[], "/var/lib/a:/var/lib/b", "/var/lib/a/hookcast.ring"),
        (&[], "", "hookcast.ring"),
        (&["--ring", "other.ring"], "/var/lib/hookcast", "other.ring"),
        (
            &["--ring", "hookcast.ring"],
            "/var/lib/hookcast",
            "hookcast.ring",
        ),
    ] {
        assert_eq!(
            config(flags, &[("STATE_DIRECTORY", directory)]).ring,
            Path::new(expected),
            "{directory}"
        );
    }
}

#[test]
fn the_reserve_is_at_most_half_of_the_file_limit() {
    for (limit, expected) in [
        (0, 1),
        (1, 1),
        (64, 32),
        (1024, 704),
        (1 << 30, limits::CONNECTIONS_MAX_LIMIT),
        (u64::MAX, 1 << 20),
    ] {
        assert_eq!(connections_max(Count::Auto, limit), expected, "{limit}");
    }
    assert_eq!(connections_max(Count::Exactly(7), 1024), 7);
}

#[test]
fn ranges_are_those_that_help_states() {
    for (flag, good, bad) in [
        ("--shards", &["1", "64", "auto"][..], &["0", "65", "x"][..]),
        (
            "--max-connections",
            &["1", "1048576", "auto"],
            &["0", "1048577"],
        ),
        ("--keep-alive", &["1s", "1h"], &["0", "999ms", "61m"]),
        ("--drain", &["0s", "5m"], &["301s", "5"]),
        (
            "--max-body-bytes",
            &["1024", "16777216"],
            &["1023", "16777217", "64k"],
        ),
        ("--heartbeat", &["100ms", "1m"], &["0", "0s", "99ms", "61s"]),
        ("--kv-poll", &["1s", "1h"], &["0s", "61m"]),
        ("--kv-write-interval", &["1s", "1h"], &["999ms", "61m"]),
        ("--kv-timeout", &["100ms", "2m"], &["99ms", "121s"]),
        ("--log-level", &["error", "trace", "WARN"], &["off", ""]),
        ("--log-format", &["text", "json", "JSON"], &["xml"]),
        (
            "--listen",
            &["0.0.0.0:0", "unix:/a+mode=600"],
            &["", "localhost:3000", ",", "0.0.0.0:0+x"],
        ),
        (
            "--max-connections-per-ip",
            &["1", "1048576"],
            &["0", "auto"],
        ),
        ("--trusted-proxy", &["10.0.0.0/8"], &["10.0.0.0/40", ""]),
        ("--client-address-header", &["Forwarded"], &["a b", ""]),
        ("--admin", &["127.0.0.1:9000"], &["9000", ""]),
        (
            "--allow-origin",
            &["*", "https://a.example"],
            &["a.example", "https://a.example/"],
        ),
        (
            "--kv-endpoint",
            &["http://127.0.0.1:1/v4"],
            &["127.0.0.1:1"],
        ),
    ] {
        for value in good {
            config(&[flag, value], &[]);
        }
        for value in bad {
            let message = error(&[flag, value], &[]);
            assert!(
                message.contains(flag) && !message.contains('\n'),
                "{flag} {value}: {message}"
            );
        }
    }
}

#[test]
fn errors_are_one_line_whatever_is_quoted() {
    for flags in [
        &["--heartbeat", "1s\nhookcast: all is well\x1b[2J"][..],
        &["--no-such\nflag"],
        &["--heartbeet", "1s"],
        &["--ring"],
        &["--ring", "a", "--ring", "b"],
        &["stray"],
        &["kv-chekc"],
        &["--secret-file", "/no/such\nfile"],
    ] {
        let message = error(flags, &[]);
        assert!(
            !message.contains(char::is_control) && !message.contains("Usage"),
            "{message:?}"
        );
    }
    assert!(
        error(&["--heartbeet", "1s"], &[]).contains("--heartbeat"),
        "suggests what was meant"
    );
}

#[test]
fn the_secret_comes_from_a_file_or_a_variable() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "from-file\n").unwrap();
    let path = file.path().to_str().unwrap();
    let secret = |flags: &[&str], variables: &[(&str, &str)]| config(flags, variables).secret;
    assert_eq!(
        secret(&["--secret-file", path], &[]).unwrap().expose(),
        "from-file"
    );
    assert_eq!(
        secret(&[], &[("WEBHOOK_SECRET", "from-env")])
            .unwrap()
            .expose(),
        "from-env"
    );
    assert!(secret(&[], &[]).is_none());
    assert!(
        error(&["--secret-file", path], &[("WEBHOOK_SECRET", "from-env")]).contains("keep one")
    );
    assert!(error(&[], &[("WEBHOOK_SECRET", "")]).contains("WEBHOOK_SECRET is empty"));
    assert!(
        error(&["--secret-file", "/no/such/file"], &[]).contains("--secret-file /no/such/file")
    );
}

#[test]
fn the_debug_form_shows_no_secret() {
    let text = format!(
        "{:?}",
        config(&[], &[&KV[..], &[("WEBHOOK_SECRET", "s3cret")]].concat())
    );
    assert!(
        !text.contains("s3cret") && !text.contains("t0ken"),
        "{text}"
    );
}

#[test]
fn kv_takes_all_three_variables_or_none() {
    let kv = config(&["--kv-poll", "7s"], &KV).kv.unwrap();
    assert_eq!(
        (
            kv.account.as_str(),
            kv.namespace.as_str(),
            kv.token.expose()
        ),
        (KV[0].1, KV[2].1, "t0ken")
    );
    assert_eq!(kv.endpoint.as_str(), "https://api.cloudflare.com/client/v4");
    assert_eq!(kv.poll_interval, Duration::from_secs(7));
    for missing in 0..3 {
        let mut variables = KV.to_vec();
        let (name, _) = variables.remove(missing);
        let absent = error(&[], &variables);
        variables.push((name, ""));
        for message in [absent, error(&[], &variables)] {
            assert!(
                message.starts_with(&format!("missing {name}:")),
                "{message}"
            );
        }
    }
    assert!(
        config(&[], &[("CLOUDFLARE_API_TOKEN", ""), ("WEBHOOK_KV", "")])
            .kv
            .is_none()
    );
    for (index, bad) in [
        (0, "../x"),
        (0, "me@example.com"),
        (0, "023e105f4ecef8ad9ca31a8372d0c35"),
        (0, "023e105f4ecef8ad9ca31a8372d0c3530"),
        (0, "023e105f4ecef8ad9ca31a8372d0c35g"),
        (0, "023e105f4ecef8ad9ca31a8372d0c3é"),
        (0, "t0ken"),
        (1, "t0ken\n"),
        (1, "é"),
        (2, "WEBHOOK_KV"),
        (2, "0f2ac74b-498b-4802-8cb6-8387c421e279"),
        (2, " 0f2ac74b498b48028cb68387c421e279"),
    ] {
        let mut variables = KV;
        variables[index].1 = bad;
        let message = error(&[], &variables);
        assert!(
            message.starts_with(variables[index].0) && !message.contains("t0ken"),
            "{message}"
        );
    }
}

#[test]
fn the_ca_file_must_hold_a_certificate() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let flags = ["--kv-ca-file", file.path().to_str().unwrap()];
    assert!(error(&flags, &KV).contains("is empty"));
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["kv.example".into()]).unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    for (text, expected) in [
        (key.serialize_pem(), "no certificate"),
        ("-----BEGIN CERTIFICATE-----\n".into(), "cut off"),
        (
            [pem.trim_end(); 2].concat(),
            "-----END and the next -----BEGIN",
        ),
    ] {
        std::fs::write(file.path(), &text).unwrap();
        let message = error(&flags, &KV);
        assert!(
            message.starts_with("--kv-ca-file") && message.contains(expected),
            "{message}"
        );
    }
    std::fs::write(file.path(), pem).unwrap();
    assert!(config(&flags, &KV).kv.unwrap().ca_pem.is_some());
    assert!(error(&["--kv-ca-file", "/no/such/file"], &KV).contains("cannot be read"));
    assert!(error(&["--kv-ca-file", "/dev/zero"], &KV).contains("longer than"));
}

#[test]
fn kv_check_takes_the_kv_flags_after_it_and_needs_kv() {
    let parsed = parse_with(&["kv-check", "--kv-timeout", "3s"], &KV)
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(parsed.action, Action::KvCheck);
    assert_eq!(parsed.config.kv.unwrap().timeout, Duration::from_secs(3));
    let before = config(&["--kv-timeout", "4s", "kv-check"], &KV);
    assert_eq!(before.kv.unwrap().timeout, Duration::from_secs(4));
    assert!(error(&["kv-check"], &[]).contains("CLOUDFLARE_ACCOUNT_ID"));
}

#[test]
fn doctor_sends_a_secret_unencrypted_only_with_the_flag_for_it() {
    let secret = &[("WEBHOOK_SECRET", "s3cret")];
    let url = "http://hooks.example";
    assert!(error(&["doctor", url], secret).contains("--send-secret-unencrypted"));
    config(&["doctor", url], &[]);
    config(&["doctor", url, "--send-secret-unencrypted"], secret);
    config(&["doctor", "https://hooks.example"], secret);
    config(&["doctor", "http://127.0.0.1:3000"], secret);
}

#[test]
fn doctor_reads_a_token_and_keeps_it_like_a_secret() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    let flag = format!("--token-file={}", path.display());
    std::fs::write(&path, "e30.e30.s\n").unwrap();
    let token = config(&["doctor", "https://hooks.example", &flag], &[]).doctor;
    assert_eq!(token.unwrap().token.unwrap().expose(), "e30.e30.s");
    let exposed = error(&["doctor", "http://hooks.example", &flag], &[]);
    assert!(exposed.contains("the token to"), "{exposed}");
    for content in ["", "\n", "two words", "tab\t.", "é.e.e"] {
        std::fs::write(&path, content).unwrap();
        let problem = error(&["doctor", "https://hooks.example", &flag], &[]);
        assert!(problem.contains("--token-file "), "{problem}");
        assert!(
            !problem.contains("words") && !problem.contains('é'),
            "{problem}"
        );
    }
}

#[test]
fn pem_in_place_of_its_path_is_not_shown() {
    let pem = "-----BEGIN PRIVATE KEY-----\nMIIs3cret";
    let (listen, file) = (["--listen", "127.0.0.1:0+tls"], ["--tls-cert", "c"]);
    let message = error(&[listen, file, ["--tls-key", pem]].concat(), &[]);
    assert!(
        message.contains("[secret]") && !message.contains("MII"),
        "{message}"
    );
    let pem = format!("--tls-key={pem}");
    let message = error(&[&listen[..], &file, &[&pem]].concat(), &[]);
    assert!(
        message.starts_with("--tls-key takes the path") && !message.contains("s3"),
        "{message}"
    );
}

#[test]
fn origins_are_any_or_a_list() {
    let origins = |flags: &[&str]| config(flags, &[]).allow_origins;
    assert_eq!(origins(&["--allow-origin", "*"]), AllowOrigins::Any);
    assert_eq!(
        origins(&[
            "--allow-origin",
            "https://A.example,https://b.example",
            "--allow-origin",
            "http://c:1"
        ]),
        AllowOrigins::Exactly(vec![
            "https://a.example".into(),
            "https://b.example".into(),
            "http://c:1".into()
        ])
    );
    assert!(error(&["--allow-origin", "*,https://a.example"], &[]).contains("already allows"));
}

#[test]
fn settings_that_are_probably_unintended_cause_a_warning() {
    type Case<'a> = (&'a [&'a str], Vec<(&'a str, &'a str)>, &'a str);
    let cases: [Case; 9] = [
        (
            &["--listen", "127.0.0.1:1,[::]:1"],
            vec![],
            "[::]:1 with no secret",
        ),
        (&["--admin", "0.0.0.0:9000"], vec![], "no access control"),
        (
            &["--max-connections", "19745"],
            vec![],
            "leaves room for (19680)",
        ),
        (
            &["--kv-endpoint", "http://10.0.0.1"],
            KV.to_vec(),
            "in clear text",
        ),
        (&["--kv-poll", "1s"], vec![], "--kv-poll has no effect"),
        (
            &[],
            vec![("WEBHOOK_SECRET", "\u{feff}s3cret")],
            "the secret of the webhooks has a byte order mark",
        ),
        (&[], vec![("WEBHOOK_SECRET", "s3 cret")], "white space"),
        (&[], vec![("WEBHOOK_SECRET", "s3crét")], "outside ASCII"),
        (
            &[],
            vec![("HOOKCAST_HEARTBEET", "1s"), ("HOOKCAST_PORT_80_TCP", "x")],
            "HOOKCAST_HEARTBEET is no setting",
        ),
    ];
    for (flags, variables, expected) in cases {
        let config = config(flags, &variables);
        assert!(
            matches!(&config.warnings()[..], [warning] if warning.contains(expected)),
            "{:?}",
            config.warnings()
        );
    }
    let quiet = config(
        &["--listen", "0.0.0.0:1", "--max-connections", "19680"],
        &[("WEBHOOK_SECRET", "s3cret")],
    );
    assert!(quiet.warnings().is_empty());
}

/// Sockets passed by a service manager replace `--listen` and `--admin`.
#[test]
fn warnings_follow_the_addresses_that_are_listened_on() {
    let config = config(&["--listen", "0.0.0.0:1", "--admin", "[::]:2"], &[]);
    assert_eq!(config.warnings().len(), 2);
    let on = |listen: &str, admin: &str| {
        let listen = Listen::tcp(listen.parse().unwrap());
        config.warnings_on(&[listen], admin.parse().ok())
    };
    assert!(on("127.0.0.1:1", "").is_empty());
    assert!(on("[::1]:1", "[::ffff:127.0.0.1]:2").is_empty());
    assert!(on("[::ffff:127.0.0.1]:1", "127.8.9.10:2").is_empty());
    let warnings = on("192.0.2.1:3", "192.0.2.1:4");
    assert!(
        warnings[0].contains("192.0.2.1:3 with no secret"),
        "{warnings:?}"
    );
    assert!(
        warnings[1].contains("192.0.2.1:4 has no access control"),
        "{warnings:?}"
    );
}

#[test]
fn the_file_limit_is_raised_to_the_hard_one() {
    let raised = raise_file_limit();
    let limit = getrlimit(Resource::Nofile);
    assert_eq!(limit.current, limit.maximum);
    assert_eq!(limit.maximum.unwrap_or(u64::MAX), raised);
}

#[test]
fn the_table_has_a_row_for_every_flag_and_variable() {
    let table = markdown_table();
    for cell in [
        "| `--listen ADDRESS` | `HOOKCAST_LISTEN` | `127.0.0.1:3000` |",
        "`--check-config` |  |",
        "`WEBHOOK_SECRET`",
    ] {
        assert!(table.contains(cell), "{cell} in\n{table}");
    }
    assert!(
        table.lines().all(|line| line.matches('|').count() == 5),
        "{table}"
    );
}
