//! Every spelling that a server may take for a reserved key is found, and what is none passes.

use super::*;
use crate::wire::parameters::Injected;
use proptest::prelude::*;

#[test]
fn each_spelling_of_a_reserved_key_is_found() {
    for options in [
        &b"--crdb:jwt_auth_enabled=true"[..],
        b"-c crdb:jwt_auth_enabled=true",
        b"-ccrdb:jwt_auth_enabled=true",
        b"-c\tCRDB:JWT-auth-Enabled=true",
        b"-c \\crdb:jwt_auth_enabled=true",
        b"--c\\r\\d\\b\\:jwt_auth_enabled=true",
        b"--crdb:jwt_auth_enabled",
        b"--crdb:x=a=b",
        b"-c -c crdb:x=1",
        b"-c --crdb:x=1",
        b"-c \\ crdb:x=1",
        b"-c a=b\x85--crdb:x=1",
        b"-c a=b\xa0--crdb:x=1",
        b"-c a=b\xe2\x80\x83--crdb:x=1",
        b"--crdb%3Ax=1",
        b"--crdb%253Ax=1",
        b"-c+crdb:x=1",
        b"%2d%2Dcrdb%3ax%3d1",
        b"-c a=%zz --crdb:x=1",
        b"-c a=b%20--crdb:x=1",
        b"junk --crdb:x=1",
        b"--system-identity=root",
        b"--SYSTEM_\xc4\xb0DENTITY=root",
    ] {
        let found = found(options, true);
        assert!(matches!(found, Some(Reserved::Vendor(_))), "{}: {found:?}", options.escape_ascii());
    }
}

#[test]
fn a_virtual_cluster_is_found_unless_it_is_allowed() {
    for options in [&b"-ccluster=system"[..], b"--cluster=a.b", b"-c CLUSTER=x", b"--cluster", b"--clu%73ter=x"] {
        assert_eq!(found(options, false), Some(Reserved::Cluster), "{}", options.escape_ascii());
        assert_eq!(found(options, true), None, "{}", options.escape_ascii());
    }
    for options in [&b"-c database=cluster:system/d"[..], b"--DataBase=cluster%3Asystem"] {
        assert_eq!(found(options, false), Some(Reserved::ClusterInDatabase), "{}", options.escape_ascii());
        assert_eq!(found(options, true), None, "{}", options.escape_ascii());
    }
    for database in ["cluster:system/defaultdb", "cluster:", "CLUSTER:x"] {
        let body = ["user\0me\0Database\0", database, "\0database\0plain\0\0"].concat();
        let parameters = StartupParameters::parse(body.as_bytes()).unwrap();
        assert_eq!(parameters.reserved(but_for_cluster(false)), Some(Reserved::ClusterInDatabase), "{database}");
        assert_eq!(parameters.reserved(but_for_cluster(true)), None, "{database}");
    }
}

#[test]
fn a_locked_database_stands_against_every_spelling_in_options() {
    let locked = Allowed { cluster: false, database: false };
    let reserved = |body: &str| StartupParameters::parse(body.as_bytes()).unwrap().reserved(locked);

    for options in ["-c database=x", "--DATABASE=x", "-cdata%62ase=x", "--database=cluster:a/b"] {
        assert_eq!(reserved(&format!("user\0me\0options\0{options}\0\0")), Some(Reserved::Database), "{options}");
    }
    assert_eq!(reserved("user\0me\0database\0cluster:a/b\0\0"), None, "it is replaced");
}

#[test]
fn every_options_counts_whatever_its_case() {
    for name in ["options", "OPTIONS", "optİons", "OPTİONS"] {
        let body = ["user\0me\0", name, "\0--crdb:x=1\0options\0-c a=b\0\0"].concat();
        let parameters = StartupParameters::parse(body.as_bytes()).unwrap();
        assert_eq!(parameters.reserved(but_for_cluster(false)), Some(Reserved::Vendor("crdb:x".to_owned())), "{name}");
    }
}

#[test]
fn what_only_looks_like_a_reserved_key_passes() {
    for options in [
        &b""[..],
        b"-c application_name=crdb:x",
        b"-capplication_name=--crdb:x",
        b"--application_name=crdb:jwt_auth_enabled",
        b"-c a=x\\ --crdb:y",
        b"-c a=x\\ cluster",
        b"-c application_name=my%20cluster",
        b"-c my.cluster=1 --my_crdb:x=2",
        b"-c search_path=cluster -c database=crdb:d",
        b"--clusters=1",
        b"crdb:x=1 cluster",
        b"-B 100",
        b"-c",
        b"-c a=cluster:system -c database=my_cluster:x",
    ] {
        assert_eq!(found(options, false), None, "{}", options.escape_ascii());
    }
}

#[test]
fn a_key_is_shown_without_control_characters_and_not_for_long() {
    let options = [b"--crdb:%1b[31m\xff", &[b'x'; 500][..], b"=1"].concat();

    let Some(Reserved::Vendor(shown)) = found(&options, true) else { panic!("not found") };

    assert!(shown.chars().count() <= SHOWN_BYTES_MAX && shown.starts_with("crdb:"), "{shown}");
    assert!(shown.chars().all(|letter| letter.is_ascii_graphic() || letter == '\u{fffd}'), "{shown}");
}

fn found(options: &[u8], allows_cluster: bool) -> Option<Reserved> {
    let body = [b"user\0me\0options\0", options, b"\0\0"].concat();
    StartupParameters::parse(&body).unwrap().reserved(but_for_cluster(allows_cluster))
}

fn but_for_cluster(cluster: bool) -> Allowed {
    Allowed { cluster, database: true }
}

/// A blank that the server parts items at.
fn blanks() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(b" \t\n\x0b\x0c\r\x85\xa0".to_vec()), 1..3)
}

/// A harmless setting, whose value may hold escaped blanks and words that mean something elsewhere.
fn harmless() -> impl Strategy<Value = Vec<u8>> {
    let key = "[a-b][a-z_.-]{0,8}";
    let value = "([a-zA-Z0-9:,/_-]|\\\\ |\\\\\\\\|crdb:|cluster){0,8}";
    let form = prop::sample::select(vec!["-c ", "-c", "--"]);
    (form, key, value).prop_map(|(form, key, value)| format!("{form}{key}={value}").into_bytes())
}

/// One of the reserved keys, in any case, with escapes that change nothing.
fn reserved_key() -> impl Strategy<Value = Vec<u8>> {
    let names = vec!["crdb:jwt_auth_enabled", "crdb:x", "cluster", "system_identity", "crdb:remote-addr", "crdb:"];
    let letters = prop::collection::vec((any::<bool>(), any::<bool>()), 24);
    (prop::sample::select(names), letters).prop_map(|(name, letters)| {
        let spelled = name.bytes().zip(letters).flat_map(|(byte, (is_upper, is_escaped))| {
            let byte = match byte {
                b'_' if is_upper => b'-',
                _ if is_upper => byte.to_ascii_uppercase(),
                _ => byte,
            };
            if is_escaped { vec![b'\\', byte] } else { vec![byte] }
        });
        spelled.collect()
    })
}

/// Some bytes of it as `%xx`, blanks as `+` perhaps.
fn encoded(text: &[u8], choices: &[u8]) -> Vec<u8> {
    let choices = choices.iter().cycle();
    let encode = |(byte, choice): (&u8, &u8)| match (byte, choice % 4) {
        (b'%' | b'+', _) | (_, 0) => format!("%{byte:02x}").into_bytes(),
        (_, 1) => format!("%{byte:02X}").into_bytes(),
        (b' ', 2) => vec![b'+'],
        _ => vec![*byte],
    };
    text.iter().zip(choices).flat_map(encode).collect()
}

proptest! {
    #[test]
    fn every_spelling_of_the_servers_grammar_is_found(
        before in prop::collection::vec(harmless(), 0..3),
        blanks in prop::collection::vec(blanks(), 8),
        form in 0..3,
        key in reserved_key(),
        value in "[a-z0-9:]{0,6}",
        after in prop::collection::vec(harmless(), 0..3),
        choices in prop::collection::vec(any::<u8>(), 1..40),
        encodings in 0..3,
    ) {
        let mut blanks = blanks.into_iter();
        let mut blank = || blanks.next().unwrap();
        let item = match form {
            0 => [b"-c", &*blank(), &key].concat(),
            1 => [b"-c", &*key].concat(),
            _ => [b"--", &*key].concat(),
        };
        let item = [&*item, b"=", value.as_bytes()].concat();
        let mut options = Vec::new();
        for item in before.into_iter().chain([item]).chain(after) {
            options.extend(item);
            options.extend(blank());
        }
        for _ in 0..encodings {
            options = encoded(&options, &choices);
        }

        prop_assert!(found(&options, false).is_some(), "{}", options.escape_ascii());
    }

    #[test]
    fn harmless_options_pass_byte_for_byte(items in prop::collection::vec(harmless(), 0..6), blanks in prop::collection::vec(blanks(), 6)) {
        let options = items.into_iter().zip(blanks).flat_map(|(item, blanks)| [item, blanks].concat()).collect::<Vec<_>>();
        let body = [b"user\0me\0database\0d\0options\0", &*options, b"\0\0"].concat();
        let parameters = StartupParameters::parse(&body).unwrap();

        prop_assert_eq!(parameters.reserved(but_for_cluster(false)), None);
        let sent = parameters.for_upstream(&Injected { user: "app", database: "x", is_database_locked: false, session_parameters: &[], jwt: false });
        prop_assert_eq!(sent.get("options"), Some(&*options));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(options in prop::collection::vec(any::<u8>(), 0..80)) {
        settings(&options);
        swallows_what_follows(&options);
    }
}
