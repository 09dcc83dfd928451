//! The man page and the shell completions, from the definition of the command line.
//!
//! Printed by the hidden subcommands `man` and `completions`, for packages. Never reads the
//! environment: what is printed is the same on every machine.

use clap_complete::Shell;
use clap_mangen::Man;

use super::args;

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
    let mut page = Vec::new();
    let man = Man::new(page_of)
        .section("1")
        .source(concat!("hookcast ", env!("CARGO_PKG_VERSION")))
        .manual("User Commands");
    man.render(&mut page).expect("a Vec takes all bytes");
    let page = String::from_utf8(page).expect("the definitions are UTF-8");
    // The date is empty, not missing. Tables and examples keep their lines.
    page.replace(" 1  \"", " 1 \"\" \"")
        .replace(".SH EXTRA\n", ".SH NOTES\n.nf\n")
        .replace(".SH VERSION\n", ".fi\n.SH VERSION\n")
        .into_bytes()
}

/// The completions for a shell.
pub(super) fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "hookcast", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::args::Args;
    use super::*;

    /// Every flag is in all of them.
    #[test]
    fn man_page_and_completions_name_every_flag() {
        let page = String::from_utf8(man_page(None)).unwrap();
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
    /// A page that another refers to is there, with the lines of an example as they were written.
    #[test]
    fn every_command_that_is_shown_has_a_page() {
        let main = String::from_utf8(man_page(None)).unwrap();
        assert!(main.contains("NOTES\n.nf\n"), "{main}");
        let shown = Args::command();
        let shown = shown.get_subcommands().filter(|shown| !shown.is_hide_set());
        for name in shown.map(clap::Command::get_name) {
            let page = String::from_utf8(man_page(Some(name))).unwrap();
            assert!(
                page.contains(&format!(".TH hookcast-{name} 1 \"\" \"hook")),
                "{page}"
            );
            assert!(page.contains("secret\\-file"), "{page}");
        }
    }
}
