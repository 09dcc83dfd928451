use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn unknown_keys_and_presets_have_suggestions() {
    key_refused(
        "secret_file = [\"good\"]",
        "there is no key \"secret_file\", did you mean secret_files?",
    );
    key_refused("maxbody = \"1MiB\"", "did you mean max_body?");
    key_refused("zzz = 1", "there is no key \"zzz\"");
    refused(
        "[a]\npreset = \"githb\"\nverify = false",
        2,
        "\"githb\", did you mean github?",
    );
    refused(
        "[a]\npreset = \"twilio\"\nverify = false",
        2,
        "there is no preset \"twilio\": it is one of github,",
    );
    refused(
        "\n[a]\nverify = false",
        2,
        "preset is missing: it is one of github,",
    );
}

#[test]
fn values_have_types_and_ranges() {
    key_refused(
        "max_body = \"1GiB\"",
        "max_body is from 1KiB to 16MiB, such as \"1MiB\", not \"1GiB\"",
    );
    key_refused("max_body = \"big\"", "not \"big\"");
    key_refused("max_body = 1000", "not \"1000\"");
    key_refused("max_body = true", "max_body is a text: write it in quotes");
    key_refused(
        "dedupe = 72",
        "dedupe is whole seconds, such as \"72h\", not \"72\"",
    );
    key_refused("dedupe = \"31d\"", "dedupe is from 0s to 30d");
    key_refused("dedupe = \"soon\"", "not \"soon\"");
    key_refused("gzip = \"yes\"", "gzip is true or false, without quotes");
    key_refused("session = 5", "session is a text");
    key_refused("session = \"\"", "session is empty");
    key_refused("session = \" \"", "session is empty");
    key_refused(
        &format!("session = \"{}\"", "s".repeat(257)),
        "session is longer than 256 bytes",
    );
    key_refused("session = \"{{ a\"", "session: ");
    key_refused("events = \"push\"", "events is an array of texts");
    key_refused("events = [5]", "events is a text");
    key_refused("events = []", "events is empty");
    key_refused("events = [\"*.opened\"]", "\"*.opened\" is no event");
    key_refused("templates = \"push\"", "templates is a table");
    key_refused(
        "header = \"X-Sum\"",
        "header the preset github takes no such key",
    );
}

#[test]
fn faults_of_the_scheme_have_the_line_of_their_key() {
    let text = "[a]\npreset = \"hmac\"\nsecret_files = [\"good\"]\nheader = \"X-Sum\"\nalgorithm = \"md5\"\n\
                tolerance = \"2m\"\n";
    let faults = parsed(text).unwrap_err();
    assert!(
        faults[0].starts_with("5: algorithm is one of"),
        "{faults:?}"
    );
    assert!(
        faults[1].starts_with("6: tolerance needs a timestamp_header"),
        "{faults:?}"
    );
    refused(
        "[a]\npreset = \"hmac\"\nsecret_files = [\"good\"]\n",
        1,
        "header is missing",
    );
}

#[test]
fn a_source_without_secret_says_so() {
    let begin = "[a]\npreset = \"github\"\n";
    refused(
        begin,
        1,
        "secret_files is missing: name the file with the provider's secret. With verify = false",
    );
    refused(
        &format!("{begin}verify = true\n"),
        1,
        "secret_files is missing",
    );
    refused(
        &format!("{begin}secret_files = []\n"),
        3,
        "secret_files is empty",
    );
    refused(
        &format!("{begin}secret_files = \"good\"\n"),
        3,
        "secret_files is an array of texts",
    );
    refused(
        &format!("{begin}verify = false\nsecret_files = [\"good\"]\n"),
        3,
        "exclude each other",
    );
    // Such a provider sends no secret, which has to be said all the same.
    refused(
        "[a]\npreset = \"alertmanager\"\n",
        1,
        "secret_files is missing",
    );
    let many = ["\"good\""; 9].join(",");
    refused(
        &format!("{begin}secret_files = [{many}]\n"),
        3,
        "secret_files has over 8 files",
    );
}

#[test]
fn faults_of_secret_files_name_the_file_and_no_secret() {
    let begin = "[a]\npreset = \"github\"\nsecret_files = [\"good\",\n";
    refused(
        &format!("{begin}\"nowhere\"]"),
        4,
        "secret_files: file 2 does not exist",
    );
    refused(
        &format!("{begin}\"/nowhere/at/all\"]"),
        4,
        "the secret file /nowhere/at/all cannot be read: No such file",
    );
    refused(
        &format!("{begin}\".\"]"),
        4,
        "the secret file . is not a regular file",
    );
    refused(
        &format!("{begin}\"/dev/zero\"]"),
        4,
        "the secret file /dev/zero is not a regular file",
    );
    refused(
        &format!("{begin}\"\"]"),
        4,
        "secret_files has an empty name",
    );
    refused(&format!("{begin}\"empty\"]"), 4, "the secret file empty: ");
    refused(&format!("{begin}\"short\"]"), 4, "the secret file short: ");
    let faults = parsed(&format!("{begin}\"short\"]")).unwrap_err();
    assert!(!faults[0].contains("abc"), "{faults:?}");
}

#[test]
fn a_large_secret_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("large"), "x".repeat(4097)).unwrap();
    let text = "[a]\npreset = \"github\"\nsecret_files = [\"large\"]";
    let error = Sources::parse(text, &directory.path().join("f"), CONTENT_BYTES_MAX).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("f:3: the secret file large is larger than 4096 bytes")
    );
}

#[test]
fn a_secret_that_others_can_read_is_a_note() {
    let directory = directory();
    let path = directory.path().join("good");
    let text = "[a]\npreset = \"github\"\nsecret_files = [\"good\"]";
    for (mode, verb) in [
        (0o600, ""),
        (0o640, ""),
        (0o644, "read"),
        (0o646, "change"),
        (0o602, "change"),
    ] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let loaded = Sources::parse(text, &directory.path().join("f"), CONTENT_BYTES_MAX).unwrap();
        assert_eq!(
            loaded.notes.len(),
            usize::from(!verb.is_empty()),
            "{mode:o}"
        );
        if !verb.is_empty() {
            let expected =
                format!("f:3: the secret file good: every user of this machine can {verb} it");
            assert!(loaded.notes[0].contains(&expected), "{:?}", loaded.notes);
        }
    }
}

#[test]
fn faults_of_templates_have_their_own_line() {
    let begin = "[a]\npreset = \"github\"\nsecret_files = [\"good\"]\n[a.templates]\n";
    refused(
        &format!("{begin}push = \"{{{{ a\"\n"),
        5,
        "template \"push\": ",
    );
    refused(
        &format!("{begin}push = '''\none\n{{{{ a|nosuch }}}}'''\n"),
        7,
        "there is no filter nosuch",
    );
    refused(
        &format!("{begin}push = \"\"\"one\n{{% if %}}\"\"\"\n"),
        6,
        "template \"push\": ",
    );
    refused(
        &format!("{begin}push = 5\n"),
        5,
        "templates \"push\" is a text",
    );
    refused(
        &format!("{begin}\"a*b\" = \"x\"\n"),
        5,
        "template \"a*b\": is no name of an event",
    );
    refused(
        &format!("{begin}push = \"{}\"\n", "x".repeat(16 * 1024 + 1)),
        5,
        "is longer than 16384 bytes",
    );
    refused(
        &format!("{begin}push = \"{{% include '/etc/passwd' %}}\"\n"),
        5,
        "unknown statement include",
    );
}

#[test]
fn a_dotted_name_of_a_template_is_one_name() {
    let begin = "[a]\npreset = \"hmac\"\nheader = \"X\"\nverify = false\n[a.templates]\n";
    for name in [
        "pull_request.opened",
        "\"pull_request.opened\"",
        "pull_request.\"*\"",
    ] {
        assert!(
            parsed(&format!("{begin}{name} = \"x\"\n")).is_ok(),
            "{name}"
        );
    }
    refused(
        &format!("{begin}a.b = \"x\"\na.c = 5\n"),
        7,
        "templates \"a.c\" is a text",
    );
}

#[test]
fn notes_name_what_is_probably_not_meant() {
    let begin = "[a]\npreset = \"github\"\nsecret_files = [\"good\"]\n";
    let expected = "4: \"issues\" is only the event of exactly this name: write \"issues.*\" for all of its kinds";
    assert_eq!(
        notes(&format!("{begin}events = [\"push\", \"issues\"]\n")),
        [expected]
    );
    let found = notes(&format!(
        "{begin}[a.templates]\npull_request = \"x\"\npush = \"y\"\n"
    ));
    assert!(
        found.len() == 1 && found[0].starts_with("5: \"pull_request\" is only"),
        "{found:?}"
    );
    let slack = "[a]\npreset = \"slack\"\nverify = false\n[a.templates]\n";
    let found = notes(&format!(
        "{slack}message = \"{{{{ event.text }}}} {{{{ body.event.user }}}}\"\n"
    ));
    assert_eq!(
        found,
        ["5: template \"message\": for a member of the body write body.event.NAME"]
    );
    assert_eq!(
        notes(&format!(
            "{slack}message = \"{{{{ body.event.text }}}} my event.\"\n"
        ))
        .len(),
        1
    );
    assert!(notes(&format!("{slack}message = \"{{{{ body.event.text }}}}\"\n")).is_empty());
}

/// A secret in place of the name of its file is a common mistake, and faults are logged.
#[test]
fn a_secret_in_place_of_a_file_name_is_not_shown() {
    for secret in [
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZI",
        "hunter2/hunter2/hunter2",
        &"s".repeat(300),
    ] {
        let text = format!("[a]\npreset = \"github\"\nsecret_files = [\"{secret}\"]");
        let faults = parsed(&text).unwrap_err();
        assert!(!faults.concat().contains(secret), "{faults:?}");
        assert!(faults[0].starts_with("3: secret_files"), "{faults:?}");
    }
}

/// A captured request of one source is accepted by the other one, under the other one's name.
#[test]
fn sources_with_the_same_secret_are_a_note() {
    let one = |name: &str, preset: &str, secret: &str| {
        format!("[{name}]\npreset = \"{preset}\"\nsecret_files = [\"{secret}\"]\n")
    };
    let same = notes(&(one("a", "github", "good") + &one("b", "bitbucket", "good")));
    assert_eq!(
        same,
        [
            "4: a and b have the same secret: a request to one can be sent to the other. Give each its own"
        ]
    );
    let sent = notes(&(one("a", "telegram", "good") + &one("b", "cloudflare", "good")));
    assert_eq!(sent.len(), 1, "{sent:?}");
    let other = notes(&(one("a", "github", "good") + &one("b", "telegram", "good")));
    assert!(other.is_empty(), "{other:?}");
    let open = "[a]\npreset = \"github\"\nverify = false\n";
    assert!(notes(&(open.to_owned() + &one("b", "github", "good"))).is_empty());
}
