//! The man page and the shell completions, from the definition of the command line.
//!
//! Printed by the hidden subcommands `man` and `completions`, for packages. Never reads the
//! environment: what is printed is the same on every machine.

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::args::Args;

/// The man page hookcast(1), in roff (man(7)).
pub(super) fn man_page() -> Vec<u8> {
    let mut page = Vec::new();
    let man = Man::new(Args::command()).section("1");
    man.render(&mut page).expect("a Vec takes all bytes");
    page
}

/// The completions for a shell.
pub(super) fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "hookcast", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every flag is in all of them.
    #[test]
    fn man_page_and_completions_name_every_flag() {
        let page = String::from_utf8(man_page()).unwrap();
        assert!(page.contains(".TH hookcast 1"), "{page}");
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
}
