//! Unix sockets: whose they are, who may open them, and what stands in their way.

use super::*;

#[test]
fn the_user_of_a_unix_socket_is_told_with_the_connection() {
    if !can_be_others() {
        return;
    }
    let cluster = FakeUpstream::answering();
    let (_folder, path) = open_folder();
    let address = format!("unix:{}", path.display());
    let settings = SettingsFile::of(&cluster).address(&address).listener("mode = \"0666\"");
    let proxy = settings.listener(&format!("allowed_uids = [{OTHER}, 0]")).start();
    proxy.listener("main");

    enters(connect_unix_as(OTHER, &path));
    enters(connect_unix(&path));
    let error = refused(connect_unix_as(ANOTHER, &path));

    assert_eq!(error.sqlstate(), "28000");
    assert_eq!(refusal_line(&proxy)["peer_uid"], ANOTHER);
}

#[test]
fn a_unix_socket_that_others_may_open_and_not_use_is_warned_about_at_the_start() {
    let cluster = FakeUpstream::answering();
    let (_folder, path) = open_folder();
    let settings = SettingsFile::of(&cluster).address(&format!("unix:{}", path.display()));
    let proxy = settings.listener("mode = \"0666\"").start();
    proxy.listener("main");

    proxy.wait_for_text("its mode and owner let other users connect, and they are refused");

    if can_be_others() {
        assert_eq!(refused(connect_unix_as(OTHER, &path)).sqlstate(), "28000");
    }
}

#[test]
fn a_unix_socket_has_its_owner_and_group_from_the_first_moment() {
    if !can_be_others() {
        return;
    }
    let cluster = FakeUpstream::answering();
    let (_folder, path) = open_folder();
    let settings = SettingsFile::of(&cluster).address(&format!("unix:{}", path.display()));
    let lines = format!("mode = \"0660\"\nowner = {OTHER}\ngroup = \"daemon\"\nlocal_access = \"any\"");
    let proxy = settings.listener(&lines).start();
    proxy.listener("main");

    let found = fs::metadata(&path).unwrap();
    let group = fs::read_to_string("/etc/group").unwrap();
    let group = group.lines().find_map(|line| line.strip_prefix("daemon:x:")).unwrap().to_owned();
    assert_eq!((found.uid(), found.mode() & 0o777), (OTHER, 0o660));
    assert_eq!(found.gid().to_string(), group.split(':').next().unwrap());

    enters(connect_unix_as(OTHER, &path));
    as_user(ANOTHER, {
        let path = path.clone();
        move || std::os::unix::net::UnixStream::connect(path).unwrap_err()
    });
}

#[test]
fn an_owner_that_this_machine_does_not_have_is_refused_by_name() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).address("unix:/tmp/.s.PGSQL.65000").listener("owner = \"no-such-user\"");
    let mut proxy = settings.start();

    assert_eq!(proxy.exit_code(), 2);

    assert!(proxy.log_text().contains("/etc/passwd has no user \\\"no-such-user\\\""), "{}", proxy.log_text());
}

#[test]
fn a_folder_where_others_could_put_a_socket_is_warned_about() {
    let cluster = FakeUpstream::answering();
    // In a sticky one they can only be there first.
    for (mode, warning) in [(0o777, "can write to the folder"), (0o1777, "while crdb-proxy is down")] {
        let (folder, path) = open_folder();
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        let proxy = SettingsFile::of(&cluster).address(&format!("unix:{}", path.display())).start();
        proxy.listener("main");

        proxy.wait_for_text(warning);
    }
}

#[test]
fn a_socket_of_another_user_that_is_in_the_way_is_told_with_its_owner() {
    if !can_be_others() {
        return;
    }
    let cluster = FakeUpstream::answering();
    let (folder, path) = open_folder();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    std::os::unix::fs::chown(folder.path(), Some(ANOTHER), None).unwrap();
    let squatted = path.clone();
    // Closing leaves the file behind.
    as_user(ANOTHER, move || drop(std::os::unix::net::UnixListener::bind(squatted).unwrap()));
    let as_other =
        format!("chown -R {OTHER} . && exec setpriv --reuid {OTHER} --regid {OTHER} --clear-groups -- \"$@\"");
    let settings = SettingsFile::of(&cluster).address(&format!("unix:{}", path.display()));
    let mut proxy = settings.behind(&["sh", "-c", &as_other, "sh"]).start();

    assert_eq!(proxy.exit_code(), 3);

    let log = proxy.log_text();
    assert!(log.contains(&format!("user ID {ANOTHER}")) && !log.contains("1024"), "{log}");
    assert!(path.exists());
}
