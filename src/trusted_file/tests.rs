#![cfg(target_os = "linux")]

use super::*;
use std::{
    fs::{self, Permissions},
    io::Read,
    os::unix::fs::{PermissionsExt, lchown, symlink},
    sync::atomic::{AtomicBool, Ordering},
};
use tempfile::TempDir;

/// Nobody's user, which is neither root nor the one that runs tests.
const STRANGER: u32 = 65534;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    chmod(path, mode);
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Gives a file or link away; false where this user may not.
fn give_away(path: &Path) -> bool {
    let given = lchown(path, Some(STRANGER), None).is_ok();
    if !given {
        eprintln!("skipped: only root can give {} to another user", path.display());
    }
    given
}

fn text_of(mut opened: Opened) -> String {
    let mut text = String::new();
    opened.file.read_to_string(&mut text).unwrap();
    text
}

fn distrust(path: &Path) -> Distrust {
    match open(path, Kinds::Regular) {
        Err(OpenError::Distrusted(distrust)) => distrust,
        other => panic!("{other:?}"),
    }
}

fn kind_of_error(path: &Path) -> io::ErrorKind {
    match open(path, Kinds::Regular) {
        Err(OpenError::Io(error)) => error.kind(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_that_group_or_others_can_write_is_refused_with_the_way_to_mend_it() {
    let folder = folder();
    let path = folder.path().join("pw");
    write(&path, "x", 0o664);
    let told = distrust(&path).told(Stakes::Secret);

    assert!(told.starts_with("can be written by its group (mode 0664), who could put another secret there"), "{told}");
    assert!(told.ends_with(&format!("chmod go-w {}", path.display())), "{told}");
    chmod(&path, 0o602);
    assert!(distrust(&path).told(Stakes::Ca).contains("every user (mode 0602)"));
    for mode in [0o600, 0o644, 0o400, 0o755] {
        chmod(&path, mode);
        assert_eq!(open(&path, Kinds::Regular).unwrap().doubts, []);
    }
}

#[test]
fn links_of_root_and_of_this_user_are_followed_as_kubernetes_makes_them() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("..2026_01")).unwrap();
    write(&at("..2026_01/pw"), "one", 0o644);
    symlink("..2026_01", at("..data")).unwrap();
    symlink("..data/pw", at("pw")).unwrap();
    symlink(at("pw"), at("absolute")).unwrap();
    symlink("..2026_01/../..data/./pw", at("winding")).unwrap();

    for name in ["pw", "absolute", "winding", "..data/../pw", "./..data/pw"] {
        assert_eq!(text_of(open(&at(name), Kinds::Regular).unwrap()), "one", "{name}");
    }
}

#[test]
fn a_link_of_another_user_is_refused_wherever_on_the_way_it_is() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("real")).unwrap();
    write(&at("real/pw"), "x", 0o600);
    symlink("real", at("folder")).unwrap();
    symlink("real/pw", at("last")).unwrap();
    symlink("folder/pw", at("behind")).unwrap();
    if !(give_away(&at("folder")) && give_away(&at("last"))) {
        return;
    }

    for (path, link) in [("folder/pw", "folder"), ("last", "last"), ("behind", "folder")] {
        let found = distrust(&at(path));

        assert_eq!(found, Distrust::Link { link: at(link), owner: STRANGER }, "{path}");
        let told = found.told(Stakes::Settings);
        assert!(told.contains(at(link).to_str().unwrap()) && told.contains("user 65534"), "{told}");
    }
}

#[test]
fn a_file_of_another_user_is_doubted() {
    let folder = folder();
    let path = folder.path().join("pw");
    write(&path, "x", 0o644);
    if !give_away(&path) {
        return;
    }

    let doubts = open(&path, Kinds::Regular).unwrap().doubts;

    assert_eq!(doubts, [Doubt::Owner { path: path.clone(), owner: STRANGER }]);
    let told = refused(&doubts).unwrap().told(Stakes::Secret);
    let end =
        format!("which strict_secrets refuses; give it to root or to the daemon's user: chown root {}", path.display());
    assert!(told.ends_with(&end), "{told}");
}

#[test]
fn a_folder_where_everybody_can_replace_something_on_the_way_is_refused_unless_it_is_sticky() {
    let folder = folder();
    fs::create_dir_all(folder.path().join("open/sub")).unwrap();
    let path = folder.path().join("open/sub/pw");
    write(&path, "x", 0o600);
    chmod(path.parent().unwrap(), 0o755);
    symlink("open/sub/pw", folder.path().join("link")).unwrap();
    symlink("open/sub", folder.path().join("short")).unwrap();
    let open_folder = folder.path().join("open");
    let ways = [path.clone(), folder.path().join("link"), folder.path().join("short/pw")];

    for mode in [0o777, 0o757] {
        chmod(&open_folder, mode);
        for way in &ways {
            let expected = Distrust::Folder { folder: open_folder.canonicalize().unwrap(), mode };
            assert_eq!(distrust(way), expected);
            let told = expected.told(Stakes::Ca);
            assert!(told.contains(&format!("mode {mode:04o}")) && told.contains("trust another server"), "{told}");
            assert!(told.ends_with(&format!("chmod go-w {}", open_folder.display())), "{told}");
        }
    }
    for mode in [0o1777, 0o755, 0o711] {
        chmod(&open_folder, mode);
        for way in &ways {
            assert_eq!(open(way, Kinds::Regular).unwrap().doubts, [], "{mode:o}");
        }
    }
}

#[test]
fn a_folder_that_its_group_can_write_or_that_is_a_strangers_is_doubted_wherever_on_the_way() {
    let folder = folder();
    fs::create_dir_all(folder.path().join("odd/sub")).unwrap();
    let path = folder.path().join("odd/sub/pw");
    write(&path, "x", 0o600);
    chmod(path.parent().unwrap(), 0o755);
    let odd = folder.path().join("odd").canonicalize().unwrap();
    chmod(&odd, 0o2775);

    let doubts = open(&path, Kinds::Regular).unwrap().doubts;

    assert_eq!(doubts, [Doubt::Folder { folder: odd.clone(), mode: 0o2775 }]);
    let told = refused(&doubts).unwrap().told(Stakes::Secret);
    assert!(told.contains("its group can put another") && told.contains("which strict_secrets refuses;"), "{told}");
    if !give_away(&odd) {
        return;
    }
    for mode in [0o755, 0o1777, 0o775] {
        chmod(&odd, mode);
        let doubts = open(&path, Kinds::Regular).unwrap().doubts;
        assert_eq!(doubts, [Doubt::FolderOwner { folder: odd.clone(), owner: STRANGER }], "{mode:o}");
        assert!(refused_since(&[], &doubts).is_some() && refused_since(&doubts, &doubts).is_none());
    }
}

#[test]
fn a_pipe_that_stands_there_since_a_file_was_seen_holds_nobody_up() {
    let folder = folder();
    let (path, pipe) = (folder.path().join("pw"), folder.path().join("pipe"));
    write(&path, "x", 0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let found = walk(&path).unwrap();
    assert!(found.is_regular().unwrap());
    fs::rename(&pipe, &path).unwrap();
    let (done, opened) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(found.open(Kinds::Regular).is_ok()));

    let opened = opened.recv_timeout(std::time::Duration::from_secs(20));

    assert_eq!(opened, Ok(true), "it waits for a writer");
}

#[test]
fn a_program_is_judged_without_being_read() {
    let folder = folder();
    let path = folder.path().join("program");
    write(&path, "#!/bin/sh", 0o711);

    assert_eq!(look_at_program(&path).unwrap(), []);
    chmod(&path, 0o775);
    let Err(OpenError::Distrusted(distrust)) = look_at_program(&path) else { panic!("it is taken") };
    assert!(distrust.told(Stakes::Program).contains("run commands as the daemon's user"));
}

#[test]
fn what_is_no_regular_file_is_not_even_opened_where_one_is_wanted() {
    let folder = folder();
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let (reader, _writer) = io::pipe().unwrap();
    let handed_over = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader)));

    for path in [folder.path(), &pipe, &handed_over, Path::new("/"), Path::new("/dev/null")] {
        assert!(matches!(open(path, Kinds::Regular), Err(OpenError::NotAFile)), "{}", path.display());
    }
}

#[test]
fn a_descriptor_that_was_handed_over_is_taken_as_it_is() {
    use std::{io::Write, os::fd::AsRawFd};
    let folder = folder();
    let path = folder.path().join("settings");
    write(&path, "of a file", 0o666);
    let file = File::open(&path).unwrap();
    let (reader, mut writer) = io::pipe().unwrap();
    writer.write_all(b"of a pipe").unwrap();
    drop(writer);

    for (descriptor, text) in [(file.as_raw_fd(), "of a file"), (reader.as_raw_fd(), "of a pipe")] {
        let opened = open(Path::new(&format!("/dev/fd/{descriptor}")), Kinds::Any).unwrap();
        assert_eq!(text_of(opened), text);
    }
}

#[test]
fn what_cannot_be_opened_has_the_systems_reason() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    write(&at("file"), "x", 0o600);
    symlink("loop", at("loop")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();

    assert_eq!(kind_of_error(&at("none")), io::ErrorKind::NotFound);
    assert_eq!(kind_of_error(&at("none/deeper")), io::ErrorKind::NotFound);
    assert_eq!(kind_of_error(&at("dangling")), io::ErrorKind::NotFound);
    assert_eq!(kind_of_error(&at("file/deeper")), io::ErrorKind::NotADirectory);
    assert!(matches!(open(&at("loop"), Kinds::Regular), Err(OpenError::Io(_))));
}

#[test]
fn a_swap_between_look_and_use_never_shows_what_a_stranger_chose() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    write(&at("good"), "good", 0o600);
    write(&at("bad"), "bad", 0o600);
    symlink("bad", at("theirs")).unwrap();
    if !give_away(&at("theirs")) {
        return;
    }
    symlink("good", at("current")).unwrap();
    let is_over = AtomicBool::new(false);

    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                // Both names go on existing; only what they are changes places.
                let (one, other) = (at("theirs"), at("current"));
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, &one, rustix::fs::CWD, &other, flags).unwrap();
            }
        });
        let (mut read, mut refused) = (0, 0);
        while (read < 500 || refused < 500) && read + refused < 1_000_000 {
            match open(&at("current"), Kinds::Regular) {
                Ok(opened) => {
                    assert_eq!(text_of(opened), "good");
                    read += 1;
                }
                Err(OpenError::Distrusted(Distrust::Link { .. })) => refused += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(read > 0 && refused > 0, "{read} {refused}");
    });
}
