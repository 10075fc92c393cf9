//! What command lines mean, and what is said of wrong ones.

use super::*;
use crate::control::Verb;
use crate::settings::Flag;

fn parsed(arguments: &str) -> Result<Command, Declined> {
    let words = arguments.split_ascii_whitespace().map(OsString::from);
    parse([OsString::from("crdb-proxy")].into_iter().chain(words))
}

fn flags(arguments: &str) -> Flags {
    match parsed(arguments) {
        Ok(Command::Run(flags)) => flags,
        Ok(_) => panic!("another command"),
        Err(declined) => panic!("{declined:?}"),
    }
}

fn wrong(arguments: &str) -> String {
    match parsed(arguments) {
        Err(Declined::Wrong(sentence)) => sentence,
        Err(Declined::Asked(_)) => panic!("{arguments}: help"),
        Ok(_) => panic!("{arguments} was taken"),
    }
}

#[test]
fn the_command_line_is_well_formed() {
    Line::command().debug_assert();
}

#[test]
fn run_is_the_command_that_may_be_left_out() {
    for arguments in ["postgresql://a@h/d --port 5", "run postgresql://a@h/d --port 5"] {
        let flags = flags(arguments);

        assert_eq!(flags.url.as_deref(), Some("postgresql://a@h/d"));
        assert_eq!(flags.given, [(Flag::Port, "5".to_owned())]);
    }
}

#[test]
fn every_flag_reaches_the_settings_under_its_own_name() {
    for flag in Flag::ALL {
        let with_value = flag != Flag::UnsafeAllowRemote;
        let value = if with_value { " x" } else { "" };
        let said = if with_value { "x" } else { "true" };

        let flags = flags(&format!("--{}{value}", flag.name()));

        assert_eq!(flags.given, [(flag, said.to_owned())]);
    }
}

#[test]
fn listen_may_be_repeated_and_no_other_flag_may() {
    let twice = flags("--listen a --listen b");

    assert_eq!(twice.given.len(), 2);
    assert!(parsed("--host a --host b").is_err());
}

#[test]
fn a_wrong_command_line_is_one_sentence() {
    let cases = [
        (
            "--password hunter2",
            "there is no `--password`, since other users can read the process list; use `--password-file`",
        ),
        ("--pasword-file x", "`--pasword-file` is no flag of this command; did you mean `--password-file`?"),
        ("--host", "`--host` needs a value"),
        ("--host a --host b", "`--host` was given twice"),
        ("--unsafe-allow-remote=hunter2", "`--unsafe-allow-remote` takes no value"),
        ("--host h config check", "the command `config` goes before everything else"),
        ("run config", "the command `config` goes before everything else"),
        ("config", "`config` needs a command: `config check`, `config show` or `config diff`"),
        ("endpoint", "`endpoint` needs a command: `endpoint disable`, `endpoint enable` or `endpoint prefer`"),
        ("endpoint disable", "the endpoint's name is missing"),
        ("endpoint disabel e", "`disabel` is no command; did you mean `endpoint disable`?"),
        ("endpoint enable e --for 1h", "`--for` is no flag of this command"),
        ("endpoint disable e f", "an argument is not expected here"),
        ("config chekc", "`chekc` is no command; did you mean `config check`?"),
        ("completions", "the shell is missing: bash, elvish, fish, powershell, zsh"),
        ("completions tcsh", "this is none of the shells: bash, elvish, fish, powershell, zsh"),
        ("bogus", "`bogus` is neither a command nor a connection string, which begins with postgresql://"),
        (
            "good.toml",
            "an argument (not shown) is neither a command nor a connection string, which begins with postgresql://; a settings file stands behind `--config`",
        ),
        ("a://b c://d", "more than one connection string; quote it, since & and blanks end it in a shell"),
        (
            "run cofnig",
            "`cofnig` is neither a command nor a connection string, which begins with postgresql://; did you mean `config check`?",
        ),
    ];
    for (arguments, expected) in cases {
        assert_eq!(wrong(arguments), format!("{expected} (see crdb-proxy --help)"), "{arguments}");
    }
    assert!(wrong("chekc").contains("did you mean `check`?"));
}

#[test]
fn no_sentence_repeats_what_may_hold_a_password() {
    for place in [
        "S",
        "run S",
        "config S",
        "config check S",
        "--S",
        "x://y S",
        "S x://y",
        "demo S",
        "--json=S",
        "endpoint S",
        "endpoint disable e S",
        "completions S",
        "wait S",
        "wait --limit=x S",
    ] {
        for secret in ["app:hunter2@host/d", "hunter2", "Correcthorse", "h=x,password=hunter2"] {
            let sentence = wrong(&place.replace('S', secret));
            assert!(!sentence.contains(secret) && !sentence.contains("hunter2"), "{place}: {sentence}");
        }
    }
    for place in ["config S", "demo S", "S S", "--S", "--unsafe-allow-remote=S", "config show --json=S"] {
        let sentence = wrong(&place.replace('S', "postgresql://app:hunter2@h/d"));
        assert!(!sentence.contains("hunter2"), "{place}: {sentence}");
    }
}

#[test]
fn config_show_and_check_take_the_same_flags() {
    assert!(matches!(
        parsed("config show --json --config f.toml"),
        Ok(Command::ConfigShow { json: true, flags: Flags { config: Some(_), .. } })
    ));
    assert!(matches!(parsed("config check --host h"), Ok(Command::ConfigCheck(_))));
}

#[test]
fn help_names_every_flag_and_is_no_error() {
    let help = help();

    for flag in Flag::ALL {
        assert!(help.contains(&format!("--{}", flag.name())), "{} is missing", flag.name());
    }
    let asked = |arguments| match parsed(arguments) {
        Err(Declined::Asked(asked)) => asked,
        _ => panic!("{arguments} is an error"),
    };
    assert_eq!(asked("--help").exit_code(), 0);
    assert_eq!(asked("--version").to_string(), "crdb-proxy 0.1.0\n");
}

#[test]
fn an_order_for_an_endpoint_is_told_apart_from_where_the_daemon_is() {
    let Ok(Command::Endpoint { flags, order }) = parsed("endpoint prefer e --for 2h --cluster c --admin unix:s") else {
        panic!("not taken")
    };

    assert_eq!((order.verb, order.endpoint.as_str()), (Verb::Prefer, "e"));
    assert_eq!((order.span.as_deref(), order.cluster.as_deref()), (Some("2h"), Some("c")));
    assert_eq!(flags.given, [(Flag::Admin, "unix:s".to_owned())]);
    assert!(matches!(
        parsed("endpoint enable e --config f.toml"),
        Ok(Command::Endpoint { flags: Flags { config: Some(_), .. }, order: Order { span: None, .. } })
    ));
}

#[cfg(feature = "demo")]
#[test]
fn the_demo_has_two_flags_of_its_own() {
    assert!(matches!(
        parsed("demo --listen localhost:0 --admin off"),
        Ok(Command::Demo(DemoFlags { admin: Some(_), .. }))
    ));
    assert!(parsed("demo --host h").is_err());
}
