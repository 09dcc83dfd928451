//! Text of requests and of the operator's file, as a part of a line for a terminal.
//!
//! Called for faults of the file, and by the texts of `source-check`. Never removes anything.

/// A line without control characters and without what reorders text on a terminal.
pub fn escaped(text: &str) -> String {
    let is_plain = |c: char| {
        !c.is_control() && !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut line = String::new();
    for c in text.chars() {
        if is_plain(c) {
            line.push(c);
        } else {
            line.extend(c.escape_unicode());
        }
    }
    line
}
