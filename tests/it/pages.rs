//! What the program prints of itself: the manual page and completions, held to the programs that read them.

use crate::harness::{
    DEADLINE, Terminal, markdown,
    process::{self, mortal},
    proxy::run_daemon,
};
use std::{fs, path::Path, process::Command};

fn printed(words: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    run_daemon(folder.path(), words, &[]).expect_success() + "\n"
}

/// The manual page as a reader sees it.
fn manual() -> String {
    let mut groff = Command::new("groff");
    let shown = process::run(groff.args(["-man", "-ww", "-Tutf8", "-P-cbou"]), &printed(&["man"]), DEADLINE);
    assert_eq!(shown.stderr, "", "groff complains");
    shown.expect_success()
}

#[test]
fn the_manual_page_is_one_that_groff_has_nothing_to_say_of() {
    let manual = manual();

    let headings = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS", "EXIT STATUS", "FILES", "ENVIRONMENT"];
    for heading in headings.iter().chain(&["SIGNALS", "SEE ALSO"]) {
        assert_eq!(manual.lines().filter(|line| line == heading).count(), 1, "{heading}\n{manual}");
    }
    let words = manual.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.starts_with("crdb-proxy(1) User Commands crdb-proxy(1) NAME crdb-proxy - Lets any"), "{manual}");
    for text in ["/etc/crdb-proxy/crdb-proxy.toml", "CRDB_PROXY_PASSWORD", "SIGTERM, SIGINT", "SIGHUP", "drain_limit"] {
        assert!(manual.contains(text), "{text}\n{manual}");
    }
}

#[test]
fn the_manual_page_has_every_flag_of_the_daemon_and_every_exit_code() {
    let manual = manual();

    let folder = tempfile::tempdir().unwrap();
    let help = run_daemon(folder.path(), &["--help"], &[]).expect_success();
    let flags = help.split_whitespace().filter(|word| word.starts_with("--")).collect::<Vec<_>>();
    assert!(flags.len() > 15, "{flags:?}");
    for flag in flags {
        assert!(manual.contains(flag.trim_end_matches([',', ';'])), "{flag}");
    }
    let tables = markdown::tables(&markdown::read("README.md"));
    let codes = tables.iter().find(|table| table.header[0] == "exit code").unwrap();
    let (_, status) = manual.split_once("\nEXIT STATUS\n").unwrap();
    let (status, _) = status.split_once("\nFILES\n").unwrap();
    let told = status.lines().filter_map(|line| line.split_whitespace().next()?.parse::<u8>().ok());
    let documented = codes.rows.iter().map(|row| row[0].parse::<u8>().unwrap());
    assert_eq!(told.collect::<Vec<_>>(), documented.collect::<Vec<_>>());
}

#[test]
fn bash_completes_commands_and_flags() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("completions"), printed(&["completions", "bash"])).unwrap();
    let mut bash = mortal(Path::new(Terminal::PREFIX[0]), "KILL", None);
    bash.args([Terminal::PREFIX[1], "bash", "--norc", "--noprofile", "-i"]).current_dir(folder.path());
    bash.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", folder.path()).env("PS1", "$ ");
    let mut bash = Terminal::start(bash);
    // Says what it was given in place of doing it.
    bash.type_keys("crdb-proxy() { printf '<%s>' \"$@\"; echo; }; . ./completions; bind 'set bell-style none'\n");

    bash.type_keys("crdb-proxy endp\tdis\tone --clus\tprod --for 1h\n");

    bash.wait_for("<endpoint><disable><one><--cluster><prod><--for><1h>");
    // Beside these files.
    for name in ["deb", "jso", "1h.txt"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    bash.type_keys("crdb-proxy --log-level deb\t--log-format js\t--ca-file compl\tx\n");
    bash.wait_for("<--log-level><debug><--log-format><json><--ca-file><completions><x>");
    bash.type_keys("crdb-proxy wait --limit 1h\tx\n");
    bash.wait_for("<wait><--limit><1hx>");
    bash.type_keys("exit\n");
    assert_eq!(bash.exit_code(), 0);
}

#[test]
fn help_says_that_one_connection_string_is_taken() {
    for words in [&["--help"][..], &["run", "--help"], &["config", "check", "--help"], &["config", "show", "--help"]] {
        let help = printed(words);
        let usage = help.lines().find(|line| line.starts_with("Usage: ")).unwrap();

        assert!(usage.ends_with(" [URL]") && !help.contains("[MORE]"), "{usage}\n{help}");
    }
}

#[test]
fn each_shell_takes_its_completions() {
    let folder = tempfile::tempdir().unwrap();
    for (shell, words) in [
        ("bash", ["complete -F", "endpoint", "--password-file"]),
        ("zsh", ["#compdef crdb-proxy", "endpoint", "--password-file"]),
        ("fish", ["complete -c crdb-proxy", "endpoint", "password-file"]),
    ] {
        let script = printed(&["completions", shell]);
        assert!(words.iter().all(|word| script.contains(word)), "{shell}: {script}");
        let file = folder.path().join(shell);
        fs::write(&file, script).unwrap();

        let checked = process::run(Command::new(shell).arg("-n").arg(&file), "", DEADLINE);

        assert_eq!((checked.status.code(), checked.stderr.as_str()), (Some(0), ""), "{shell}");
    }
    for shell in ["elvish", "powershell"] {
        assert!(printed(&["completions", shell]).contains("crdb-proxy;endpoint;disable"), "{shell}");
    }
}

#[test]
fn the_readme_tells_of_every_command() {
    let help = printed(&["--help"]);
    let readme = markdown::read("README.md");

    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let commands = commands.lines().take_while(|line| !line.is_empty());
    let commands =
        commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).filter(|name| !name.is_empty());
    let mut found = 0;
    for command in commands.filter(|name| !["run", "help"].contains(name)) {
        found += 1;
        let told = [format!("`{command}`"), format!("crdb-proxy {command}"), format!("-- {command}")];
        assert!(told.iter().any(|told| readme.contains(told)), "{command}");
    }
    assert!(found > 8, "only {found} commands were found in {help}");
}
