//! Whether rules of users can be kept here. Where the kernel shows this process only some of the users, all
//! others look alike, and a rule would let in or refuse the wrong ones.

use super::files::FileFault;
use crate::{
    settings::{ListenAddress, Listener, Settings},
    sys,
};

/// What is wrong with the rules of these settings under the map of users that holds here, one fault for each
/// listener; none without a rule.
pub(super) fn check(settings: &Settings) -> Vec<FileFault> {
    if !settings.listeners.iter().any(|listener| listener.access.asks_for_user()) {
        return Vec::new();
    }
    match sys::uid_map() {
        Ok(map) => check_under(&map, settings),
        Err(error) => check_under(&format!("unreadable: {error}"), settings),
    }
}

/// The same in a few lines.
pub(crate) fn users_fault(settings: &Settings) -> Option<String> {
    let lines = check(settings).into_iter().map(|fault| format!("{}: {}", fault.place, fault.fault));
    let lines: Vec<_> = lines.collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// As [`check`], under this map.
fn check_under(map: &str, settings: &Settings) -> Vec<FileFault> {
    let is_whole = sys::is_whole_uid_map(map);
    let map = map.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
    let map = map.join(", ");
    let fault = |listener: &Listener| {
        let rule = listener.access.word();
        let why = if !is_whole {
            format!("the kernel shows it only some of them (/proc/self/uid_map says \"{map}\")")
        } else if !cfg!(target_os = "linux") && !matches!(listener.address, ListenAddress::Unix(_)) {
            "this system does not tell whose a TCP connection is".to_owned()
        } else {
            return None;
        };
        Some(FileFault {
            place: format!("listener \"{}\"", listener.name),
            fault: format!(
                "local_access = \"{rule}\" needs a daemon that can tell users apart, and {why}. Set local_access = \"any\" \
                 or \"password\" (local_password); or listen on a Unix socket, whose mode and group say who may connect, \
                 with local_access = \"any\"; or let it see every user: under systemd with the drop-in uid-rules.conf, \
                 which takes back PrivateUsers=yes, in a container with --userns=host"
            ),
        })
    };
    let asking = settings.listeners.iter().filter(|listener| listener.access.asks_for_user());
    asking.filter_map(|listener| fault(listener)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_rule_of_users_needs_every_user_and_others_need_none() {
        let settings = |access: &str| {
            let text = format!(
                "local_access = \"{access}\"\n[cluster.a]\nca = \"system\"\nuser = \"app\"\npassword = {{ env = \"P\" }}\n\
                 [[cluster.a.endpoint]]\nhost = \"h\"\n[[listener]]\nname = \"main\"\n"
            );
            crate::settings::load_text(&text, Path::new("/f"), None).unwrap().settings
        };

        let faults = check_under("   0  0 1\n 990 990 1\n", &settings("same-user"));
        let told = faults.iter().map(|fault| format!("{}: {}", fault.place, fault.fault)).collect::<String>();
        for word in ["\"main\"", "\"0 0 1, 990 990 1\"", "\"any\"", "uid-rules.conf", "--userns=host", "Unix socket"] {
            assert!(told.contains(word), "{word}: {told}");
        }
        assert!(check_under("0 0 1", &settings("any")).is_empty());
        assert!(check_under("0 0 4294967295", &settings("same-user")).is_empty());
        assert!(!check_under("unreadable: no", &settings("same-user")).is_empty());
    }
}
