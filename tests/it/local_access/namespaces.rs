//! Where the kernel shows the daemon only some users, or none: a rule of users cannot be kept there, and nobody is taken for
//! the daemon's own user.

use super::*;

/// In front of a program: a user namespace in which only some users are mapped.
fn among_few_users() -> Option<[&'static str; 3]> {
    usable(["unshare", "--user", "--map-root-user"])
}

/// `None` where such a namespace may not be made.
fn usable<const N: usize>(words: [&'static str; N]) -> Option<[&'static str; N]> {
    let can = Command::new(words[0]).args(&words[1..]).arg("true").status().is_ok_and(|status| status.success());
    if !can {
        println!("skipped: no user namespaces here");
    }
    can.then_some(words)
}

#[test]
fn a_rule_of_users_where_only_some_are_known_is_fatal_and_the_fix_is_told() {
    let Some(words) = among_few_users() else { return };
    let cluster = FakeUpstream::answering();
    let mut proxy = SettingsFile::of(&cluster).behind(&words).start();

    assert_eq!(proxy.exit_code(), 2);

    let log = proxy.log_text();
    for word in ["/proc/self/uid_map", "local_access = \\\"any\\\"", "uid-rules.conf", "--userns=host"] {
        assert!(log.contains(word), "{word}: {log}");
    }
}

#[test]
fn check_refuses_settings_there_that_the_daemon_would_not_start_with() {
    let Some(words) = among_few_users() else { return };
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster);
    let file = settings.write();
    let mut command = TestProxy::command_behind(&words, file.parent().unwrap());
    command.args(["check", "--config"]).arg(&file);

    let checked = process::run(&mut command, "", DEADLINE);

    assert_eq!(checked.status.code(), Some(2), "{} {}", checked.stdout, checked.stderr);
    assert!(checked.stderr.contains("/proc/self/uid_map"), "{}", checked.stderr);
}

#[test]
fn without_a_rule_of_users_it_serves_there_and_a_reload_that_brings_one_fails() {
    let Some(words) = among_few_users() else { return };
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).listener("local_access = \"any\"").behind(&words).start();
    proxy.client();

    proxy.rewrite_settings(|text| text.replace("\"any\"", "\"same-user\""));
    proxy.signal(rustix::process::Signal::HUP);

    let line = proxy.wait_for_message("reload failed");
    assert!(line["faults"].as_str().unwrap().contains("uid-rules.conf"), "{line}");
    proxy.client();
}

#[test]
fn a_check_of_settings_says_it_too() {
    let Some(words) = among_few_users() else { return };
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster);
    let file = settings.write();

    let mut command = TestProxy::command_behind(&words, file.parent().unwrap());
    let checked = process::run(command.args(["config", "check", "--config"]).arg(&file), "", DEADLINE);

    assert_eq!(checked.status.code(), Some(2));
    assert!(checked.stderr.contains("uid-rules.conf"), "{}", checked.stderr);
}

/// In front of a program: a user namespace without any user, in which everybody looks like one.
fn among_nobody() -> Option<[&'static str; 2]> {
    usable(["unshare", "--user"])
}

#[test]
fn a_daemon_that_looks_like_everybody_takes_nobody_for_itself() {
    let Some(words) = among_nobody() else { return };
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).listener("local_access = \"any\"").behind(&words).start();
    proxy.client();

    let (status, _, told) = proxy.http("POST /reload", "");

    assert_eq!(status, 403, "{told}");
    assert!(told.contains("user namespace"), "{told}");
}

#[test]
fn a_link_of_somebody_is_not_followed_by_a_daemon_that_looks_like_everybody() {
    let Some(words) = among_nobody() else { return };
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).listener("local_access = \"any\"");
    let settings = settings.password("password = { file = \"link.pw\" }");
    std::os::unix::fs::symlink("app.pw", settings.path("link.pw")).unwrap();
    let file = settings.write();

    let check = |words: &[&str]| {
        let mut command = TestProxy::command_behind(words, file.parent().unwrap());
        process::run(command.args(["config", "check", "--config"]).arg(&file), "", DEADLINE)
    };
    let (alone, among_nobody) = (check(&[]), check(&words));

    assert_eq!(alone.status.code(), Some(0), "{}", alone.stderr);
    assert_eq!(among_nobody.status.code(), Some(2), "{}", among_nobody.stderr);
    assert!(among_nobody.stderr.contains("link.pw"), "{}", among_nobody.stderr);
}
