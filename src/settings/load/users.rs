//! Users of a cluster, beside `user` or in tables, and what listeners say of them.

use super::tests::World;
use crate::settings::{AuthKind, AuthMethod, Flag, SecretSource, UserMode, show};

const TWO_USERS: &str = "\
[cluster.prod]\nca = \"ca.crt\"\n\
[[cluster.prod.endpoint]]\nhost = \"h\"\n\
[cluster.prod.user.app]\npassword = { file = \"a\" }\n\
[cluster.prod.user.\"rea.der\"]\npassword = { env = \"R\" }\nauth = \"jwt\"\n";

fn of_listener(lines: &str) -> World {
    World::of_file(&format!("{TWO_USERS}[[listener]]\n{lines}\n"))
}

/// The only fault, after the file and the line.
fn fault(world: World) -> String {
    let faults = world.faults();
    assert_eq!(faults.len(), 1, "{faults:#?}");
    faults[0].split_once(": ").unwrap().1.to_owned()
}

#[test]
fn users_stand_in_tables_with_credentials_of_their_own() {
    let loaded = of_listener("user = \"REA.DER\"").loaded();

    let cluster = &loaded.settings.clusters[0];
    let users: Vec<_> = cluster.users().map(|user| (user.name.as_str(), user.auth)).collect();
    assert_eq!(users, [("app", AuthKind::Password), ("rea.der", AuthKind::Jwt)]);
    assert_eq!(cluster.other_users[0].password, Some(SecretSource::Env("R".to_owned())));
    assert_eq!(loaded.settings.listeners[0].user.name, "rea.der", "as the cluster spells it");
}

#[test]
fn what_is_shown_of_users_means_the_same() {
    for lines in ["user = \"app\"", "user_mode = \"map\"", "user = \"app\"\nuser_mode = \"must-match\""] {
        let first = of_listener(lines).loaded();
        let shown = show(&first);

        let again = World::of_file(&shown).loaded();

        assert!(shown.contains("[cluster.prod.user.\"rea.der\"]"), "{shown}");
        assert_eq!(again.settings.clusters, first.settings.clusters);
        assert_eq!(again.settings.listeners, first.settings.listeners);
    }
}

#[test]
fn a_listener_of_several_users_says_which_one_or_maps_names() {
    assert_eq!(of_listener("user_mode = \"map\"").loaded().settings.listeners[0].user.mode, UserMode::Map);
    for (lines, words) in [
        ("", "several users (\"app\", \"rea.der\")"),
        ("user_mode = \"must-match\"", "several users"),
        ("user = \"apq\"", "did you mean \"app\"?"),
        ("user = \"app\"\nuser_mode = \"map\"", "has no effect with user_mode = \"map\""),
        ("user = \"app\"\nuser_mode = \"some\"", "replace"),
    ] {
        let said = fault(of_listener(lines));
        assert!(said.contains(words), "{lines}: {said}");
    }
}

#[test]
fn credentials_beside_a_table_of_users_are_faults_and_so_are_flags() {
    for line in ["password = { file = \"p\" }", "auth = \"jwt\""] {
        let text = TWO_USERS.replace("ca = \"ca.crt\"", &format!("ca = \"ca.crt\"\n{line}"));
        let said = fault(World::of_file(&format!("{text}[[listener]]\nuser = \"app\"\n")));
        assert!(said.contains("beside a table of users"), "{line}: {said}");
    }
    for (flag, key) in [(Flag::User, "user"), (Flag::PasswordFile, "password"), (Flag::PasswordCommand, "password")] {
        let said = of_listener("user = \"app\"").flag(flag, "x").faults();
        assert!(said[0].contains(&format!("whose {key} is meant")), "{said:?}");
    }
    let said = of_listener("user = \"app\"").variable("CRDB_PROXY_PASSWORD", "x").faults();
    assert!(said[0].contains("table of users"), "{said:?}");
}

#[test]
fn the_ways_to_log_in_are_listed_in_the_file_or_in_the_connection_string() {
    use AuthMethod::{Nothing, Password, Scram};
    let text = TWO_USERS.replace("auth = \"jwt\"", "auth = \"jwt\"\nrequire_auth = [\"password\"]");
    let loaded = World::of_file(&format!("{text}[[listener]]\nuser = \"app\"\n")).loaded();
    assert_eq!(loaded.settings.clusters[0].other_users[0].require_auth, Some(vec![Password]));
    assert!(show(&loaded).contains("require_auth = [\"password\"]"));
    for (said, expected) in [("scram-sha-256", vec![Scram]), ("!password", vec![Scram, Nothing])] {
        let url = format!("postgresql://app@h/d?sslrootcert=system&require_auth={said}");
        let settings = World::default().url(&url).flag(Flag::PasswordFile, "p").loaded().settings;
        assert_eq!(settings.clusters[0].user.require_auth, Some(expected), "{said}");
    }
}

#[test]
fn a_list_of_ways_to_log_in_that_cannot_be_is_a_fault() {
    for (list, words) in [
        ("[]", "scram-sha-256"),
        ("[\"md5\"]", "must be a list of"),
        ("[\"none\", \"none\"]", "twice"),
        ("[\"scram-sha-256\"]", "sends the token as a password"),
    ] {
        let text = TWO_USERS.replace("auth = \"jwt\"", &format!("auth = \"jwt\"\nrequire_auth = {list}"));
        let said = fault(World::of_file(&format!("{text}[[listener]]\nuser = \"app\"\n")));
        assert!(said.contains(words), "{list}: {said}");
    }
}

#[test]
fn what_cannot_be_beside_a_clients_own_password_is_a_fault() {
    let of_client = |lines: &str| {
        let cluster =
            "[cluster.p]\nca = \"c\"\nuser = \"app\"\ncredential = \"client\"\n[[cluster.p.endpoint]]\nhost = \"h\"\n";
        World::of_file(&format!("{cluster}[[listener]]\n{lines}\n"))
    };
    let user = of_client("").loaded().settings.clusters[0].user.clone();
    assert!(user.asks_client && user.password.is_none());
    assert!(show(&of_client("").loaded()).contains("credential = \"client\""));
    for (lines, words) in [
        ("reuse = true", "nobody else may use"),
        ("warm_max = 2", "nobody else may use"),
        ("local_password = { file = \"l\" }", "cannot be asked for beside"),
        ("address = \"0.0.0.0:1\"\nunsafe_allow_remote = true", "clients send their passwords in clear"),
    ] {
        let said = fault(of_client(lines));
        assert!(said.contains(words), "{lines}: {said}");
    }
    let both = TWO_USERS.replace("{ file = \"a\" }", "{ file = \"a\" }\ncredential = \"client\"");
    let said = fault(World::of_file(&format!("{both}[[listener]]\nuser = \"app\"\n")));
    assert!(said.contains("exclude each other"), "{said}");
}

#[test]
fn broken_tables_of_users_are_told() {
    let with = |tables: &str| {
        World::of_file(&format!("[cluster.p]\nca = \"c\"\n[[cluster.p.endpoint]]\nhost = \"h\"\n{tables}\n"))
    };
    for (tables, words) in [
        ("[cluster.p.user]", "missing; the SQL user"),
        ("[cluster.p.user.app]", "password: missing"),
        ("[cluster.p.user]\napp = 1", "must be a table"),
        ("[cluster.p.user.app]\npassword = { file = \"a\" }\npasword = 1", "unknown key"),
        ("[cluster.p.user.\"\"]\npassword = { file = \"a\" }", "must not be empty"),
        (
            "[cluster.p.user.app]\npassword = { file = \"a\" }\n[cluster.p.user.APP]\npassword = { file = \"b\" }\n\
             [[listener]]\nuser = \"app\"",
            "same name; SQL ignores case",
        ),
    ] {
        let faults = with(tables).faults();
        assert!(faults.iter().any(|fault| fault.contains(words)), "{tables}: {faults:#?}");
    }
}
