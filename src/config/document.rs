//! The man pages and the shell completions, from the definition of the command line.
//!
//! Printed by the subcommands `man` and `completions`, for packages and for installations of the binary
//! alone. The sections that no flag defines are in `manual`. Never reads the environment: the output is
//! the same on every machine.

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use super::{args, manual};

/// The man page hookcast(1), or that of a command, such as hookcast-doctor(1), in roff (man(7)).
pub(super) fn man_page(command: Option<&str>) -> Vec<u8> {
    let mut whole = args::command().disable_help_subcommand(true);
    // Gives the commands their full names, and the flags that they share with the server.
    whole.build();
    let page_of = match command {
        None => whole,
        Some(name) => whole
            .find_subcommand(name)
            .expect("the parser takes no other name")
            .clone(),
    };
    let headings = headings(&page_of);
    let sections = match command {
        None => manual::of_server(&page_of),
        Some(name) => manual::of_command(name),
    };
    let mut page = from_definition(page_of);
    // The groups of flags become parts of OPTIONS.
    for heading in headings {
        let title = heading.to_uppercase();
        let part = format!(".SS {heading}\n");
        page = page.replace(&format!(".SH {title}\n"), &part);
        page = page.replace(&format!(".SH \"{title}\"\n"), &part);
    }
    // Adds an empty date: without one, the fields of the title line would shift.
    let page = page.replace(" 1  \"", " 1 \"\" \"");
    (page + &sections).into_bytes()
}

/// The headings of groups of flags.
fn headings(command: &Command) -> Vec<String> {
    let mut headings: Vec<String> = command
        .get_arguments()
        .filter_map(|argument| argument.get_help_heading())
        .map(str::to_owned)
        .collect();
    headings.dedup();
    headings
}

/// The sections that follow from the definition of the command line.
fn from_definition(command: Command) -> String {
    let has_commands = command.has_subcommands();
    let man = Man::new(command.subcommand_help_heading("COMMANDS"))
        .section("1")
        .source(concat!("hookcast ", env!("CARGO_PKG_VERSION")))
        .manual("User Commands");
    let mut page = Vec::new();
    let rendered = man
        .render_title(&mut page)
        .and_then(|()| man.render_name_section(&mut page))
        .and_then(|()| man.render_synopsis_section(&mut page))
        .and_then(|()| man.render_description_section(&mut page))
        .and_then(|()| man.render_options_section(&mut page))
        .and_then(|()| {
            if has_commands {
                man.render_subcommands_section(&mut page)
            } else {
                Ok(())
            }
        });
    rendered.expect("a Vec takes all bytes");
    String::from_utf8(page).expect("the definitions are UTF-8")
}

/// The completions for a shell.
pub(super) fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "hookcast", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::super::args::Args;
    use super::super::{args, table};
    use super::*;

    fn page_of(command: Option<&str>) -> String {
        String::from_utf8(man_page(command)).unwrap()
    }

    /// The lines of a section.
    fn section<'a>(page: &'a str, title: &str) -> &'a str {
        let (_, rest) = page
            .split_once(&format!(".SH {title}\n"))
            .unwrap_or_else(|| panic!("no {title}: {page}"));
        rest.split(".SH ").next().unwrap()
    }

    #[test]
    fn man_page_and_completions_name_every_flag() {
        let page = page_of(None);
        assert!(page.contains(".TH hookcast 1 \"\" \"hookcast "), "{page}");
        let scripts = [Shell::Bash, Shell::Zsh, Shell::Fish]
            .map(|shell| String::from_utf8(completions(shell)).unwrap());
        for argument in Args::command().get_arguments() {
            let flag = argument.get_long().unwrap();
            assert!(page.contains(&flag.replace('-', "\\-")), "man: {flag}");
            for script in &scripts {
                assert!(script.contains(flag), "{flag}: {script}");
            }
        }
    }

    /// The manual and the table of settings list the same variables.
    #[test]
    fn the_manual_names_every_variable_of_the_table() {
        let table = table::markdown_table();
        let in_table: BTreeSet<String> = table
            .lines()
            .skip(2)
            .filter_map(|row| row.split('|').nth(2))
            .map(|variable| variable.trim().trim_matches('`').to_owned())
            .filter(|variable| !variable.is_empty())
            .collect();
        assert!(in_table.len() > 25, "{in_table:?}");
        let page = page_of(None);
        let environment = section(&page, "ENVIRONMENT");
        let settings = environment.split(".SS ").next().unwrap();
        let in_manual: BTreeSet<String> = settings
            .split(".TP\n.B ")
            .skip(1)
            .map(|entry| entry.lines().next().unwrap().to_owned())
            .collect();
        assert_eq!(in_manual, in_table);
        // Each variable also stands beside its flag.
        let options = page.split(".SH ENVIRONMENT\n").next().unwrap();
        for argument in Args::command().get_arguments() {
            if let Some(variable) = argument.get_env() {
                let variable = format!("\\fB{}\\fR environment", variable.display());
                assert!(options.contains(&variable), "{variable}");
            }
        }
    }

    #[test]
    fn the_manual_has_the_sections_of_man_pages() {
        let page = page_of(None);
        for (title, parts) in [
            ("COMMANDS", &["doctor", "completions", "health"][..]),
            ("SIGNALS", &["SIGTERM", "SIGUSR2", "SIGHUP"]),
            ("FILES", &["/etc/default/hookcast", "hookcast.ring"]),
            ("\"EXIT STATUS\"", &[".B 0\n", ".B 1\n", ".B 2\n"]),
            ("SEE ALSO", &["systemd.socket (5)", "hookcast\\-doctor (1)"]),
        ] {
            let section = section(&page, title);
            for part in parts {
                assert!(section.contains(part), "{title}, {part}: {section}");
            }
        }
        // The examples are those of --help, line by line.
        let examples = section(&page, "EXAMPLES").replace("\\-", "-");
        let (_, in_help) = args::AFTER_HELP.split_once("Examples:\n").unwrap();
        for line in in_help.lines() {
            let line = line.trim().replace('\'', "\\(aq");
            assert!(examples.contains(&line), "{line}: {examples}");
        }
        let groups = page.matches("\n.SS ").count();
        assert!(groups >= 5, "flags are grouped below OPTIONS: {groups}");
    }

    #[test]
    fn the_help_lists_every_command() {
        let help = Args::command().render_long_help().to_string();
        for command in Args::command().get_subcommands() {
            let name = command.get_name();
            let is_listed = help
                .lines()
                .any(|line| line.trim_start().starts_with(&format!("{name} ")));
            assert!(is_listed, "{name}: {help}");
        }
    }

    /// The pages refer to each other, so each of them must exist.
    #[test]
    fn every_command_that_needs_a_page_has_one() {
        let commands = Args::command();
        let commands = commands.get_subcommands().map(Command::get_name);
        for name in commands.filter(|name| !["man", "completions"].contains(name)) {
            let page = page_of(Some(name));
            assert!(
                page.contains(&format!(".TH hookcast-{name} 1 \"\" \"hook")),
                "{page}"
            );
            let flag = match name {
                "source-check" | "source-list" => "\\-\\-sources",
                _ => "\\-\\-secret\\-file",
            };
            assert!(page.contains(flag), "{page}");
            assert!(
                section(&page, "\"EXIT STATUS\"").contains(".B 1\n"),
                "{page}"
            );
            assert!(!section(&page, "ENVIRONMENT").is_empty());
        }
    }
}
