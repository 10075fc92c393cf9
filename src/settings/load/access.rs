//! Who may come in: which rules go together, and what holds where nothing is said.

use super::tests::{ONE_CLUSTER, World};
use crate::settings::{AccessWord, Account, LocalAccess, SocketRights};

const PASSWORD: &str = "local_password = { env = \"L\" }";
const GUARDED: &str =
    "address = \"0.0.0.0:1\"\ntls = \"require\"\ntls_cert = \"c\"\ntls_key = \"k\"\nlocal_password = { env = \"L\" }";

fn world(first_block: &str, listener: &str) -> World {
    World::of_file(&format!("{first_block}\n{ONE_CLUSTER}[[listener]]\nname = \"main\"\n{listener}\n"))
}

fn access(first_block: &str, listener: &str) -> LocalAccess {
    world(first_block, listener).loaded().settings.listeners[0].access.clone()
}

fn fault(first_block: &str, listener: &str) -> String {
    let faults = world(first_block, listener).faults();
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults.concat()
}

#[test]
fn where_nothing_is_said_the_kind_of_listener_decides() {
    use LocalAccess::{Any, Password, SameUser};
    let open = "address = \"0.0.0.0:1\"\nunsafe_allow_remote = true";
    for first_block in ["", "local_access = \"same-user\""] {
        assert_eq!(access(first_block, ""), SameUser);
        assert_eq!(access(first_block, "address = \"unix:/run/x\""), SameUser);
        assert_eq!(access(first_block, PASSWORD), Password);
        assert_eq!(access(first_block, GUARDED), Password);
        assert_eq!(access(first_block, open), Any);
    }
}

#[test]
fn the_first_block_and_its_variable_speak_for_listeners_that_say_nothing() {
    let any = "local_access = \"any\"";

    assert_eq!(access(any, ""), LocalAccess::Any);
    assert_eq!(access(any, PASSWORD), LocalAccess::Password);
    assert_eq!(access(any, "local_access = \"same-user\""), LocalAccess::SameUser);
    let by_variable = world("", "").variable("CRDB_PROXY_LOCAL_ACCESS", "any").loaded().settings;
    assert_eq!((by_variable.local_access, &by_variable.listeners[0].access), (AccessWord::Any, &LocalAccess::Any));
    let uids = "allowed_uids = [5]";
    assert_eq!(access("local_access = \"uids\"", uids), LocalAccess::Uids(vec![5]));
}

#[test]
fn an_explicit_rule_for_users_stands_beside_the_password() {
    assert_eq!(access("", &format!("local_access = \"same-user\"\n{PASSWORD}")), LocalAccess::SameUser);
    let uids = format!("local_access = \"uids\"\nallowed_uids = [1000, 33]\n{PASSWORD}");
    assert_eq!(access("", &uids), LocalAccess::Uids(vec![1000, 33]));
}

#[test]
fn user_ids_alone_are_the_rule_of_a_unix_socket_and_of_no_other() {
    assert_eq!(access("", "address = \"unix:/run/x\"\nallowed_uids = [5]"), LocalAccess::Uids(vec![5]));

    assert!(fault("", "allowed_uids = [5]").contains("allowed_uids: has an effect beside"));
}

#[test]
fn a_rule_that_cannot_be_kept_is_refused() {
    assert!(fault("", "local_access = \"uids\"").contains("needs the listener's allowed_uids"));
    assert!(fault("local_access = \"uids\"", "").contains("needs the listener's allowed_uids"));
    assert!(fault("", "local_access = \"password\"").contains("needs local_password"));
    assert!(fault("local_access = \"password\"", "").contains("needs local_password"));
    assert!(fault("", "local_access = \"any\"\nallowed_uids = [5]").contains("has an effect beside"));
    assert!(fault("", "local_access = \"all\"").contains("must be \"same-user\", \"any\", \"uids\" or \"password\""));
    for odd in ["[]", "[-1]", "[4294967295]", "[\"app\"]", "5"] {
        let told = fault("", &format!("local_access = \"uids\"\nallowed_uids = {odd}"));
        assert!(told.contains("list of one or more user IDs"), "{odd}: {told}");
    }
}

#[test]
fn other_hosts_have_no_users_here() {
    for rule in ["local_access = \"same-user\"", "local_access = \"uids\"\nallowed_uids = [5]"] {
        let told = fault("", &format!("{GUARDED}\n{rule}"));
        assert!(told.contains("0.0.0.0:1") && told.contains("has no user here"), "{told}");
    }
}

#[test]
fn a_socket_that_others_may_open_and_not_use_is_warned_about() {
    let warnings = |lines: &str| world("", &format!("address = \"unix:/run/x\"\n{lines}")).loaded().warnings;

    for open in ["mode = \"0660\"", "owner = \"app\""] {
        let warnings = warnings(open);
        assert!(warnings.len() == 1 && warnings[0].contains("local_access = \"any\""), "{warnings:?}");
    }
    for quiet in
        ["", "mode = \"0644\"", "mode = \"0660\"\nlocal_access = \"any\"", "mode = \"0666\"\nallowed_uids = [5]"]
    {
        assert_eq!(warnings(quiet), Vec::<String>::new(), "{quiet}");
    }
}

#[test]
fn a_unix_socket_can_be_given_away() {
    let lines = "address = \"unix:/run/x\"\nowner = \"app\"\ngroup = 33\nlocal_access = \"any\"";
    let loaded = world("", lines).loaded();

    let rights = SocketRights { mode: 0o600, owner: Some(Account::Name("app".into())), group: Some(Account::Id(33)) };
    assert_eq!(loaded.settings.listeners[0].rights, rights);
    assert!(world("", "owner = \"app\"").loaded().warnings[0].contains("only Unix sockets have an owner"));
}
