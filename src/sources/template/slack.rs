//! Slack's markup as plain text.
//!
//! A filter for templates. The text of a message of Slack has links, names and three characters in a form of
//! its own. The plain form is never longer. Any text is taken: what is no markup stays as it is.

/// `<https://a.example|label>` is `label (https://a.example)`, `<@U1|ana>` is `@ana`, `<!here>` is `@here`, and
/// `&amp;` is `&`.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('<') {
        unescape(before, &mut plain);
        let inner = behind.split_once('>');
        let Some((inner, after)) = inner.filter(|(inner, _)| !inner.contains(['<', '\n'])) else {
            plain.push('<');
            rest = behind;
            continue;
        };
        write_markup(inner, &mut plain);
        rest = after;
    }
    unescape(rest, &mut plain);
    plain
}

/// Writes what stands between `<` and `>`.
fn write_markup(inner: &str, plain: &mut String) {
    let (target, label) = match inner.split_once('|') {
        Some((target, label)) if !label.is_empty() => (target, Some(label)),
        Some((target, _)) => (target, None),
        None => (inner, None),
    };
    let sign = match target.as_bytes().first() {
        Some(b'@' | b'!') => "@",
        Some(b'#') => "#",
        _ => return write_link(target, label, plain),
    };
    let name = label.unwrap_or(&target[1..]);
    let name = name.strip_prefix("subteam^").unwrap_or(name);
    // A date has a text instead of a name.
    if !target.starts_with("!date^") && !name.starts_with(sign) {
        plain.push_str(sign);
    }
    unescape(name, plain);
}

fn write_link(target: &str, label: Option<&str>, plain: &mut String) {
    let address = target.strip_prefix("mailto:").unwrap_or(target);
    match label {
        Some(label) if !address.ends_with(label) => {
            unescape(label, plain);
            plain.push_str(" (");
            unescape(address, plain);
            plain.push(')');
        }
        _ => unescape(address, plain),
    }
}

/// Slack escapes these three characters and no others.
fn unescape(text: &str, plain: &mut String) {
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('&') {
        plain.push_str(before);
        let known = [("amp;", '&'), ("lt;", '<'), ("gt;", '>')];
        let found = known
            .iter()
            .find_map(|(name, character)| Some((behind.strip_prefix(name)?, *character)));
        let (after, character) = found.unwrap_or((behind, '&'));
        plain.push(character);
        rest = after;
    }
    plain.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn links_names_and_escapes_are_plain_text() {
        for (text, expected) in [
            ("Deploy is green 🚀", "Deploy is green 🚀"),
            ("<https://a.example|link>", "link (https://a.example)"),
            (
                "see <https://a.example/?a=1&amp;b=2>.",
                "see https://a.example/?a=1&b=2.",
            ),
            ("<http://a.example|a.example>", "http://a.example"),
            ("<https://a.example|>", "https://a.example"),
            ("<mailto:ana@a.example|ana@a.example>", "ana@a.example"),
            ("<@U1> and <@U2|ana>", "@U1 and @ana"),
            ("<#C1|ops>, <#C2>", "#ops, #C2"),
            ("<!here> <!subteam^S1|@team>", "@here @team"),
            ("<!subteam^S1>", "@S1"),
            ("<!date^1392734382^{date}|18 February>", "18 February"),
            ("1 &lt; 2 &amp;&amp; 3 &gt; 2", "1 < 2 && 3 > 2"),
            // Each is read once.
            ("&amp;lt;b&amp;gt;", "&lt;b&gt;"),
            ("a & b &copy; &", "a & b &copy; &"),
            ("a < b", "a < b"),
            ("<<@U1>", "<@U1"),
            ("<a\nb>", "<a\nb>"),
            ("<>|", "|"),
            ("", ""),
        ] {
            assert_eq!(plain(text), expected, "{text}");
        }
    }

    #[test]
    fn the_plain_text_is_never_longer() {
        use proptest::prelude::*;
        proptest!(|(text in "[<>@#!|&;:a-cé]{0,40}")| {
            prop_assert!(plain(&text).len() <= text.len());
        });
    }
}
