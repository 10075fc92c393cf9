//! Files that others could change: refused at the start, at a reload, at a login, and by `config check`.

use crate::harness::{FakeUpstream, SettingsFile, proxy::run_daemon, settings::write_private};
use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, lchown, symlink},
    path::Path,
};

/// Every kind of file that settings name, and that begins with the settings themselves.
const FILES: [(&str, &str); 7] = [
    ("crdb-proxy.toml", "run commands"),
    ("app.pw", "put another secret there"),
    ("ca.crt", "trust another server"),
    ("client.crt", "show another certificate"),
    ("client.key", "show another certificate"),
    ("local.crt", "show another certificate"),
    ("local.key", "show another certificate"),
];

/// Nobody's user.
const STRANGER: u32 = 65534;

#[test]
fn a_file_that_others_can_write_is_fatal_at_the_start_and_to_the_check_whatever_it_is_for() {
    let cluster = FakeUpstream::answering();
    for (name, stakes) in FILES {
        let settings = with_every_file(&cluster);
        let file = settings.write();
        chmod(&settings.path(name), 0o660);

        let checked = run_daemon(file.parent().unwrap(), &["config", "check", "--config", file.to_str().unwrap()], &[]);

        let told = checked.stderr;
        assert_eq!(checked.status.code(), Some(2), "{name}: {told}");
        for part in [name, "mode 0660", stakes, "chmod go-w "] {
            assert!(told.contains(part), "{name}: {part}: {told}");
        }
        let mut start = TestStart::of(&file);
        assert_eq!(start.exit_code(), 2, "{name}");
        assert!(start.told().contains("chmod go-w"), "{name}: {}", start.told());
    }
}

#[test]
fn a_file_that_others_may_write_since_the_start_fails_the_reload_and_what_was_read_stays_in_use() {
    let cluster = FakeUpstream::answering();
    let proxy = with_every_file(&cluster).start();
    proxy.client();
    for (count, (name, _)) in FILES.into_iter().enumerate() {
        chmod(&proxy.path(name), 0o606);

        let (status, _, body) = proxy.http("POST /reload", "");

        assert_eq!(status, 422, "{name}: {body}");
        assert!(body.contains(name) && body.contains("chmod go-w"), "{name}: {body}");
        chmod(&proxy.path(name), 0o600);
        assert_eq!(proxy.http("POST /reload", "").0, 202, "{name} after {count} others");
    }
    proxy.client().query("select 1");
}

#[test]
fn a_secret_that_others_wrote_since_the_start_is_not_used_by_a_login() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).listener("warm_max = 0").start();
    proxy.client();
    chmod(&proxy.path("app.pw"), 0o666);
    fs::write(proxy.path("app.pw"), "what somebody else chose").unwrap();

    proxy.client().query("select 1");

    proxy.wait_for_log(|line| {
        line["message"].as_str().is_some_and(|text| text.contains("the last one stays in use"))
            && line["error"].as_str().is_some_and(|text| text.contains("every user (mode 0666)"))
    });
}

#[test]
fn a_symbolic_link_of_another_user_is_fatal_and_named() {
    let cluster = FakeUpstream::answering();
    for (name, _) in FILES {
        let settings = with_every_file(&cluster);
        let file = settings.write();
        let link = settings.path(name);
        fs::rename(&link, settings.path("real")).unwrap();
        symlink("real", &link).unwrap();
        let mut own = TestStart::of(&file);
        own.serves();
        if !give_away(&link) {
            return;
        }

        let mut start = TestStart::of(&file);

        assert_eq!(start.exit_code(), 2, "{name}");
        let told = start.told();
        assert!(told.contains(link.to_str().unwrap()) && told.contains("belongs to user 65534"), "{name}: {told}");
    }
}

#[test]
fn a_file_of_another_user_is_warned_about_and_refused_where_secrets_are_strict() {
    let cluster = FakeUpstream::answering();
    for (name, _) in FILES {
        let settings = with_every_file(&cluster).global("strict_secrets = false");
        let file = settings.write();
        if !give_away(&settings.path(name)) {
            return;
        }

        let mut start = TestStart::of(&file);
        start.serves();
        let told = start.told();
        assert!(told.contains(name) && told.contains("belongs to user 65534, who can change it"), "{name}: {told}");

        let text = fs::read_to_string(&file).unwrap().replace("strict_secrets = false", "strict_secrets = true");
        // In place, so that its owner stays.
        fs::write(&file, text).unwrap();
        let mut strict = TestStart::of(&file);
        assert_eq!(strict.exit_code(), 2, "{name}");
        let end = format!(
            "which strict_secrets refuses; give it to root or to the daemon's user: chown root {}",
            settings.path(name).display()
        );
        assert!(strict.told().contains(&end), "{name}: {}", strict.told());
    }
}

#[test]
fn a_folder_that_its_group_can_write_is_warned_about_and_refused_where_secrets_are_strict() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).global("strict_secrets = false");
    let file = settings.write();
    let folder = file.parent().unwrap();
    chmod(folder, 0o775);
    let mut start = TestStart::of(&file);

    start.serves();

    let told = start.told();
    for name in ["settings file", "secret file", "CA file"] {
        let is_it = |line: &&str| line.contains(name) && line.contains("where its group can put another in its place");
        assert_eq!(told.lines().filter(is_it).count(), 1, "{name}: {told}");
    }
    let text = fs::read_to_string(&file).unwrap().replace("strict_secrets = false", "strict_secrets = true");
    write_private(&file, &text);
    let mut strict = TestStart::of(&file);
    assert_eq!(strict.exit_code(), 2);
    assert!(strict.told().contains("(mode 0775), which strict_secrets refuses; chmod go-w"), "{}", strict.told());
}

#[test]
fn a_folder_that_everybody_can_write_is_fatal_however_far_above_the_file_it_is_unless_it_is_sticky() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster);
    let file = settings.write();
    let shared = settings.path("sw");
    fs::create_dir_all(shared.join("sub")).unwrap();
    chmod(&shared.join("sub"), 0o755);
    fs::rename(settings.path("ca.crt"), shared.join("sub/ca.crt")).unwrap();
    symlink("sw/sub/ca.crt", settings.path("ca.crt")).unwrap();
    chmod(&shared, 0o777);

    let checked = run_daemon(file.parent().unwrap(), &["config", "check", "--config", file.to_str().unwrap()], &[]);

    let told = checked.stderr;
    assert_eq!(checked.status.code(), Some(2), "{told}");
    let shown = shared.canonicalize().unwrap().display().to_string();
    for part in ["every user", "mode 0777", "trust another server", &format!("chmod go-w {shown}")] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(TestStart::of(&file).exit_code(), 2);
    chmod(&shared, 0o1777);
    let mut sticky = TestStart::of(&file);
    sticky.serves();
    assert!(!sticky.told().contains("put another in its place"), "{}", sticky.told());
}

#[test]
fn a_file_that_has_become_another_users_fails_the_reload_and_what_was_read_stays_in_use() {
    let cluster = FakeUpstream::answering();
    let proxy = with_every_file(&cluster).start();
    proxy.client();
    for (name, _) in FILES {
        let path = proxy.path(name);
        if !give_away(&path) {
            return;
        }

        let (status, _, body) = proxy.http("POST /reload", "");

        assert_eq!(status, 422, "{name}: {body}");
        let told =
            body.contains("belongs to user 65534, who can change it, and who did not own it when it was read last");
        assert!(told && body.contains(path.to_str().unwrap()), "{name}: {body}");
        lchown(&path, Some(0), None).unwrap();
        assert_eq!(proxy.http("POST /reload", "").0, 202, "{name}");
    }
    give_away(&proxy.path("ca.crt"));
    // Nobody asks: the watch for changes sees it.
    proxy.wait_for_log(|line| {
        line["message"] == "reload failed"
            && line["faults"].as_str().is_some_and(|text| text.contains("did not own it"))
    });
    proxy.client().query("select 1");
}

#[test]
fn a_private_key_that_others_can_read_is_warned_about_and_refused_where_secrets_are_strict() {
    let cluster = FakeUpstream::answering();
    for name in ["client.key", "local.key"] {
        let settings = with_every_file(&cluster).global("strict_secrets = false");
        let file = settings.write();
        chmod(&settings.path(name), 0o640);
        let mut start = TestStart::of(&file);
        start.serves();
        let told = start.told();
        let is_it = |line: &&str| line.contains(name) && line.contains("is readable by others (mode 0640)");
        assert_eq!(told.lines().filter(is_it).count(), 1, "{name}: {told}");
        write_private(
            &file,
            &fs::read_to_string(&file).unwrap().replace("strict_secrets = false", "strict_secrets = true"),
        );

        let checked = run_daemon(file.parent().unwrap(), &["config", "check", "--config", file.to_str().unwrap()], &[]);

        assert_eq!(checked.status.code(), Some(2), "{name}: {}", checked.stderr);
        let told = checked.stderr;
        assert!(told.contains("(mode 0640), which strict_secrets refuses; make it 0600: chmod 600 "), "{name}: {told}");
    }
}

#[test]
fn a_password_command_whose_program_others_can_write_is_fatal_at_the_start_and_to_the_check() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster);
    let program = settings.path("print-password");
    let settings = settings.password(&format!("password = {{ command = [\"{}\"] }}", program.display()));
    let file = settings.write();
    write_private(&program, "#!/bin/sh\ncat app.pw\n");
    chmod(&program, 0o775);

    let checked = run_daemon(file.parent().unwrap(), &["config", "check", "--config", file.to_str().unwrap()], &[]);

    let told = checked.stderr;
    assert_eq!(checked.status.code(), Some(2), "{told}");
    for part in ["can be written by its group (mode 0775)", "run commands as the daemon's user", "chmod go-w "] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(TestStart::of(&file).exit_code(), 2);
}

/// A cluster with a client certificate and a listener with one, too.
fn with_every_file(cluster: &FakeUpstream) -> SettingsFile {
    let settings = SettingsFile::of(cluster)
        .identity("client", &cluster.authority.client("app"))
        .identity("local", &cluster.authority.server())
        .cluster("cert = \"client.crt\"\nkey = \"client.key\"");
    settings.listener("tls = \"allow\"\ntls_cert = \"local.crt\"\ntls_key = \"local.key\"")
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Gives a file or link to nobody; false where this user may not.
fn give_away(path: &Path) -> bool {
    let given = lchown(path, Some(STRANGER), None).is_ok();
    if !given {
        println!("skipped: only root can give {} to another user", path.display());
    }
    given
}

/// A start with a settings file that somebody else keeps.
struct TestStart(crate::harness::TestProxy);

impl TestStart {
    fn of(file: &Path) -> Self {
        let mut command = crate::harness::TestProxy::command(file.parent().unwrap());
        command.arg("--config").arg(file).args(["--log-format", "json"]);
        Self(crate::harness::TestProxy::spawn(command, tempfile::tempdir().unwrap()))
    }

    fn serves(&mut self) {
        self.0.client();
        assert_eq!(self.0.terminate(), 0);
    }

    fn exit_code(&mut self) -> i32 {
        self.0.exit_code()
    }

    fn told(&self) -> String {
        self.0.log_text()
    }
}

#[test]
fn the_harness_itself_writes_files_that_nobody_else_can_write() {
    let folder = tempfile::tempdir().unwrap();
    write_private(&folder.path().join("file"), "x");

    let mode = fs::metadata(folder.path().join("file")).unwrap().permissions().mode();

    assert_eq!(mode & 0o777, 0o600);
}
