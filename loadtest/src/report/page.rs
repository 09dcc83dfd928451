//! Tables and pages: a table as Markdown and as HTML, and a page in one file.
//!
//! Knows nothing of measurements.

use std::fmt::Write;

/// A table of texts. The first column holds the names of the rows.
pub struct Table {
    /// Headings.
    pub head: Vec<String>,
    /// Cells, as many in each row as headings.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// The table as Markdown, with padded columns, so that it is readable as plain text.
    pub fn markdown(&self) -> String {
        let lines = || std::iter::once(&self.head).chain(&self.rows);
        let width = |at: usize| {
            lines()
                .map(|line| line[at].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let row = |cells: &[String]| {
            let cells = cells
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(at, (cell, &width))| {
                    if at == 0 {
                        format!(" {cell:<width$} |")
                    } else {
                        format!(" {cell:>width$} |")
                    }
                });
            format!("|{}\n", cells.collect::<String>())
        };
        let rule = widths.iter().enumerate().map(|(at, width)| {
            let dashes = "-".repeat(width + 1);
            if at == 0 {
                format!("{dashes}-|")
            } else {
                format!("{dashes}:|")
            }
        });
        let rule = format!("|{}\n", rule.collect::<String>());
        let rows: String = self.rows.iter().map(|cells| row(cells)).collect();
        row(&self.head) + &rule + &rows
    }

    fn html(&self) -> String {
        let line = |tag: &str, cells: &[String]| {
            let cells = cells
                .iter()
                .map(|cell| format!("<{tag}>{}</{tag}>", escape(cell)));
            format!("<tr>{}</tr>\n", cells.collect::<String>())
        };
        let rows: String = self.rows.iter().map(|cells| line("td", cells)).collect();
        let head = line("th", &self.head);
        format!(
            "<div class=\"table\"><table>\n<thead>{head}</thead>\n<tbody>{rows}</tbody></table></div>\n"
        )
    }
}

/// One HTML file with style and charts inside. It fetches nothing.
pub struct Page {
    title: String,
    body: String,
}

impl Page {
    /// An empty page.
    pub fn new(title: &str) -> Page {
        Page {
            title: title.to_owned(),
            body: format!("<h1>{}</h1>\n", escape(title)),
        }
    }

    /// A heading.
    pub fn heading(&mut self, text: &str) {
        self.add(&format!("<h2>{}</h2>\n", escape(text)));
    }

    /// A paragraph.
    pub fn paragraph(&mut self, text: &str) {
        self.add(&format!("<p>{}</p>\n", escape(text)));
    }

    /// A table.
    pub fn table(&mut self, table: &Table) {
        let html = table.html();
        self.add(&html);
    }

    /// Terminal output or input.
    pub fn preformatted(&mut self, text: &str) {
        self.add(&format!("<pre>{}</pre>\n", escape(text)));
    }

    /// Charts, as SVG.
    pub fn charts(&mut self, charts: &[String]) {
        let figures = charts.iter().map(|svg| format!("<figure>{svg}</figure>\n"));
        let figures = figures.collect::<String>();
        self.add(&format!("<div class=\"charts\">{figures}</div>\n"));
    }

    /// A list; nothing if it is empty.
    pub fn list(&mut self, items: &[String]) {
        if !items.is_empty() {
            let items = items
                .iter()
                .map(|item| format!("<li>{}</li>\n", escape(item)));
            let items = items.collect::<String>();
            self.add(&format!("<ul>\n{items}</ul>\n"));
        }
    }

    fn add(&mut self, html: &str) {
        self.body.push_str(html);
    }

    /// The whole file.
    pub fn html(&self) -> String {
        let mut html = String::new();
        // Writing to a String cannot fail.
        let _ = write!(
            html,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{}</main>\n\
             </body>\n</html>\n",
            escape(&self.title),
            self.body
        );
        html
    }
}

const STYLE: &str = "
:root { color-scheme: light; }
body { margin: 0; background: #f4f5f7; color: #333a45; font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 24px; }
h1 { font-size: 26px; margin: 8px 0; }
h2 { font-size: 19px; margin: 32px 0 8px; }
pre { background: #fff; border: 1px solid #e3e6ea; border-radius: 6px; padding: 12px; white-space: pre-wrap; font-size: 13px; }
.table { overflow-x: auto; }
table { border-collapse: collapse; background: #fff; border: 1px solid #e3e6ea; margin: 8px 0; }
th, td { padding: 6px 12px; text-align: right; border-bottom: 1px solid #e3e6ea; white-space: nowrap; font-variant-numeric: tabular-nums; }
th { background: #fafbfc; font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr)); gap: 16px; margin: 12px 0; align-items: start; }
figure { margin: 0; background: #fff; border: 1px solid #e3e6ea; border-radius: 6px; padding: 8px; }
figure svg { width: 100%; height: auto; display: block; }
";

/// Escapes text for HTML text or an attribute value.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let cells = |texts: [&str; 2]| texts.map(str::to_owned).to_vec();
        Table {
            head: cells(["server", "acks/s"]),
            rows: vec![cells(["a<b", "12"])],
        }
    }

    #[test]
    fn a_table_reads_the_same_in_markdown_and_html() {
        assert_eq!(
            table().markdown(),
            "| server | acks/s |\n|--------|-------:|\n| a<b    |     12 |\n"
        );
        assert!(
            table()
                .html()
                .contains("<tr><td>a&lt;b</td><td>12</td></tr>")
        );
    }

    #[test]
    fn a_page_fetches_nothing_and_escapes_texts() {
        let mut page = Page::new("a <b>");
        page.table(&table());
        page.list(&["\"x\" & y".into()]);
        page.charts(&["<svg></svg>".into()]);
        let html = page.html();
        assert!(html.contains("<h1>a &lt;b&gt;</h1>") && html.contains("&quot;x&quot; &amp; y"));
        assert!(html.contains("<figure><svg></svg></figure>"));
        for outside in ["http://", "https://", "src=", "<link", "@import"] {
            assert!(!html.contains(outside), "{outside}");
        }
    }
}
