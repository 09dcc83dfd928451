use std::time::Instant;

use serde_json::json;

use super::*;

const BYTES_MAX: usize = 64 * 1024;

fn rendered_of(text: &str, body: serde_json::Value) -> Result<String, RenderFault> {
    let mut templates = Templates::new();
    templates.add("t", text).unwrap();
    templates.render("t", &context("hub", "push", body), BYTES_MAX)
}

fn rendered(text: &str) -> Result<String, RenderFault> {
    let body = json!({
        "name": "ana", "null": null, "zero": 0, "half": 0.5, "yes": true, "list": [1, null, {"x": "y"}],
        "message": "first\nsecond\n", "event": {"text": "inner"}, "deep": {"a": {"b": {"c": "d"}}},
        "part": {"a": null, "b": 1},
    });
    rendered_of(text, body)
}

fn fault(text: &str) -> RenderFault {
    rendered(text).unwrap_err()
}

#[test]
fn members_of_the_body_print() {
    let cases = [
        ("{{ name }} {{ zero }} {{ half }}", "ana 0 0.5"),
        ("{{ deep.a.b.c }}{{ deep['a'].b.c }}", "dd"),
        ("{{ message|lines|first }}", "first"),
        (
            "{{ source }} {{ event }} {{ body.event.text }} {{ body.name }}",
            "hub push inner ana",
        ),
        ("{{ list|length }} {{ list[2].x }} {{ list[0] }}", "3 y 1"),
        ("{% for v in list %}{{ v }};{% endfor %}", "1;;{'x': 'y'};"),
        ("<b>{{ '<&>' }}</b>", "<b><&></b>"),
        ("{{ part }} {{ part|length }}", "{'b': 1} 1"),
    ];
    for (text, expected) in cases {
        assert_eq!(rendered(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn missing_and_null_members_print_nothing() {
    let cases = [
        "{{ missing }}",
        "{{ missing.a.b[3].c }}",
        "{{ null }}",
        "{{ null.a.b }}",
        "{{ none }}",
        "{{ missing|lines|first }}",
        "{{ null|lines|first }}",
        "{{ missing|truncate(5) }}",
        "{{ missing|money(null) }}",
        "{{ missing|branch }}",
        "{{ missing|upper }}",
        "{{ missing|replace('a', 'b') }}",
        "{{ missing ~ null }}",
        "{{ list[7].x }}",
        "{{ name.x.y }}",
        "{{ zero.x.y }}",
        "{% for v in missing %}v{% endfor %}",
        "{% if missing.a == 'x' %}v{% endif %}",
        "{{ 'v' if missing }}",
    ];
    for text in cases {
        assert_eq!(
            rendered(&format!("[{text}]")).as_deref(),
            Ok("[]"),
            "{text}"
        );
        assert_eq!(fault(text), RenderFault::Blank, "{text}");
    }
}

#[test]
fn own_filters_take_any_value() {
    let cases = [
        ("{{ 'abcdef'|truncate(4) }}", "abc…"),
        ("{{ 'abcdef'|truncate(6) }}", "abcdef"),
        ("{{ 'äöü'|truncate(2) }}", "ä…"),
        ("{{ 'ab cd'|truncate(4) }}", "ab…"),
        ("{{ 'abc'|truncate(0) }}", "…"),
        ("{{ 12345|truncate(3) }}", "12…"),
        ("{{ yes|truncate(9) }}", "True"),
        ("{{ 2000|money('usd') }}", "20.00 USD"),
        ("{{ 5|money('EUR') }}", "0.05 EUR"),
        ("{{ -1250|money('usd') }}", "-12.50 USD"),
        ("{{ 500|money('jpy') }}", "500 JPY"),
        ("{{ 1234|money('kwd') }}", "1.234 KWD"),
        ("{{ 100|money(missing) }}", "1.00"),
        (
            "{{ 'refs/heads/a/b'|branch }} {{ 'refs/tags/v1'|branch }} {{ 'x'|branch }}",
            "a/b v1 x",
        ),
        ("{{ 5|lines|first }}", "5"),
        ("{{ list|truncate(8) }}", "[1, und…"),
    ];
    for (text, expected) in cases {
        assert_eq!(rendered(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn control_characters_are_dropped() {
    let body = json!({"a": "x\u{1b}[31m\r\ny\tz\u{0}\u{85}\u{7f}\u{2028}é"});
    assert_eq!(
        rendered_of("  {{ a }}\n\n", body).as_deref(),
        Ok("x[31m\ny z\u{2028}é")
    );
}

#[test]
fn a_template_is_bounded_by_fuel() {
    let endless =
        "{% for a in range(10000) %}{% for b in range(10000) %}{{ a }}{% endfor %}{% endfor %}";
    let cases = [
        endless,
        "{{ 'x' * 90000000 }}",
        "{{ '%90000000d'|format(1) }}",
        "{{ name|indent(90000000) }}",
        "{{ list|batch(90000000, 'x') }}",
    ];
    for text in cases {
        assert_eq!(fault(text), RenderFault::TooLong, "{text}");
    }
}

#[test]
fn large_bodies_are_bounded_by_fuel() {
    let long = "é".repeat(512 * 1024);
    let many: Vec<u32> = (0..100_000).collect();
    let body = json!({"long": long, "many": many});
    let cases = [
        "{% for a in range(10000) %}{{ long|truncate(3) }}{% endfor %}",
        "{% for a in range(10000) %}{{ long|lines|first|length }}{% endfor %}",
        "{{ long|replace('é', long) }}",
        "{{ many|sort }}",
        "{% for a in range(10000) %}{{ many|truncate(3) }}{% endfor %}",
        "{{ long }}{{ long }}{{ long }}{{ long }}",
    ];
    for text in cases {
        let start = Instant::now();
        assert_eq!(
            rendered_of(text, body.clone()),
            Err(RenderFault::TooLong),
            "{text}"
        );
        eprintln!("{:?} {text}", start.elapsed());
    }
    let text = rendered_of("{{ long }}", body).unwrap();
    assert!(text.len() <= BYTES_MAX && text.len() > BYTES_MAX - 5 && text.ends_with("é…"));
}

#[test]
fn texts_are_cut_at_a_character() {
    assert_eq!(cut("abcdef", 6), "abcdef");
    assert_eq!(cut("abcdefg", 6), "abc…");
    assert_eq!(cut("éééé", 7), "éé…");
    assert_eq!(cut("abcdefg", 2), "…");
}

#[test]
fn faults_of_a_render_name_their_line_and_no_value() {
    let failed = |kind, line| RenderFault::Failed { kind, line };
    let cases = [
        ("\n{{ 1 / 0 }}", failed(ErrorKind::InvalidOperation, 2)),
        ("{{ name.x() }}", failed(ErrorKind::UnknownMethod, 1)),
        ("{{ name + 5 }}", failed(ErrorKind::InvalidOperation, 1)),
        (
            "\n\n{% for x in zero %}{% endfor %}",
            failed(ErrorKind::InvalidOperation, 3),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(fault(text), expected, "{text}");
        assert!(!expected.to_string().contains("ana"));
    }
}

#[test]
fn bad_templates_are_refused_with_their_line() {
    let mut templates = Templates::new();
    let cases = [
        ("{{ a", 1, "unexpected end of input"),
        ("\n{% if a %}", 2, "end of input"),
        ("a\n{% include 'x' %}", 2, "unknown statement include"),
        (
            "{% macro x() %}{% endmacro %}",
            1,
            "unknown statement macro",
        ),
        ("{% extends 'x' %}", 1, "unknown statement extends"),
        ("a\nb {{ a|frist }}", 2, "there is no filter frist"),
        (
            "{% if x %}{{ a | first|tojson }}{% endif %}",
            1,
            "there is no filter tojson",
        ),
        ("{{ now() }}", 1, "there is no function now"),
        (
            "{% if a %}\n{{ 'x' ~ env('HOME') }}{% endif %}",
            2,
            "there is no function env",
        ),
        ("{{ 'y' if a is blank }}", 1, "there is no test blank"),
        ("{{ 'y' if a is  not blank }}", 1, "there is no test blank"),
    ];
    for (text, line, what) in cases {
        let error = templates.add("t", text).unwrap_err();
        assert_eq!(error.line, line, "{text}: {error:?}");
        assert!(error.what.contains(what), "{text}: {error:?}");
    }
    let long = " ".repeat(TEMPLATE_BYTES_MAX + 1);
    assert!(templates.add("t", &long).is_err());
    let good = [
        "{{ '|nofilter' }}",
        "a|nofilter {{ \"it's|x\" }} {{ a or b }}",
        "{{ a||b }}",
        "{{ 'a\\'|x' }}",
    ];
    for text in [
        "{{ 'a' if (a) and not (b) or (c in (1, 2)) }}{% for x in (1, 2) %}{{ loop.index }}{% endfor %}",
        "{{ 'y' if a is not none and b is defined and c is not in (1, 2) }}",
        "{{ range(3)|join(',') }}{{ 'é\\'é|x' }}{{ a.is_x }}{{ 5 (6) }}{{ dict(a=1)|items|list }}",
        "now() {{ 'now()' }} {# now() #}",
        "{% if (a) %}{% elif (b) %}{% else %}{% endif %}{% set x = (1) %}",
    ] {
        let error = templates.add("t", text).err().map(|error| error.what);
        assert!(
            error
                .as_deref()
                .is_none_or(|what| !what.contains("there is no")),
            "{text}: {error:?}"
        );
    }
    for text in [good[0], good[1], good[3]] {
        assert_eq!(templates.add("t", text), Ok(()), "{text}");
    }
}

#[test]
fn deep_nesting_neither_overflows_nor_panics() {
    let mut templates = Templates::new();
    for text in [
        "(".repeat(8000),
        "{% if a %}".repeat(1000),
        "[".repeat(8000),
        "-".repeat(8000),
    ] {
        assert!(templates.add("t", &format!("{{{{ {text}")).is_err() || text.starts_with("{%"));
    }
    let mut body = json!("end");
    for _ in 0..120 {
        body = json!({"a": body});
    }
    let path = vec!["a"; 120].join(".");
    assert_eq!(
        rendered_of(&format!("{{{{ {path} }}}}"), body.clone()).as_deref(),
        Ok("end")
    );
    assert!(rendered_of("{{ body }}", body).is_ok());
}

#[test]
fn a_body_that_is_no_object_has_no_members() {
    let body = json!([{"id": 1}, "x"]);
    assert_eq!(
        rendered_of("{{ body[0].id }}{{ body[1] }}{{ id }}", body).as_deref(),
        Ok("1x")
    );
    assert_eq!(
        rendered_of("{{ body }}", json!("text")).as_deref(),
        Ok("text")
    );
    assert_eq!(
        rendered_of("{{ event }}{{ body }}", json!(null)).as_deref(),
        Ok("push")
    );
}

#[test]
fn in_a_strict_template_a_missing_member_is_a_fault() {
    let mut templates = Templates::strict();
    let context = context(
        "hub",
        "push",
        json!({"name": "ana", "null": null, "empty": ""}),
    );
    let cases = [
        ("user-{{ name }}", true),
        ("user-{{ missing }}", false),
        ("user-{{ null }}", false),
        ("user-{{ missing.x }}", false),
        ("{{ empty }}", false),
        ("{{ missing|default('all') }}", true),
        ("user-{{ name|nofilter if false }}", true),
    ];
    for (text, is_good) in cases {
        let rendered = match templates.add("t", text) {
            Ok(()) => templates.render("t", &context, 300).is_ok(),
            Err(_) => true,
        };
        assert_eq!(rendered, is_good, "{text}");
    }
}

/// Whatever a template is, adding and rendering it ends with a text or a fault.
#[test]
fn odd_templates_neither_panic_nor_run_on() {
    use proptest::prelude::*;

    let piece = prop::sample::select(vec![
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        " ",
        "|",
        "name",
        "list",
        "if",
        "for x in",
        "endif",
        "endfor",
        "is not",
        "'",
        "\"",
        "\\",
        "é",
        "(",
        ")",
        "[",
        "]",
        "0",
        "-",
        ".",
        ",",
        "~",
        "*",
        "set",
        "lines",
        "truncate",
        "join",
        "range",
        "\n",
        "=",
        "else",
        "body",
        "first",
        "**",
        ":",
        "9999999999",
    ]);
    let pieces = prop::collection::vec(piece, 0..24);
    let printed = pieces
        .clone()
        .prop_map(|pieces| format!("{{{{ {} }}}}", pieces.concat()));
    let text = prop_oneof![
        pieces.prop_map(|pieces| pieces.concat()),
        printed,
        ".{0,80}"
    ];
    let values = context(
        "hub",
        "push",
        json!({"name": "ana", "list": [1, "é", null]}),
    );
    proptest!(|(text in text)| {
        let mut templates = Templates::new();
        if templates.add("t", &text).is_ok()
            && let Ok(text) = templates.render("t", &values, 100)
        {
            prop_assert!(!text.trim().is_empty() && text.len() <= 100);
        }
    });
}
