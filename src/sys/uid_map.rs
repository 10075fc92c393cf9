//! Which users the kernel shows to this process. In a user namespace that maps some of them only, all the
//! others look like one (65534), and nobody can be told from them.

use std::{fs, io};

/// The map of users in which this process lives, as the kernel writes it; the whole one where the kernel has
/// no user namespaces.
///
/// # Errors
/// It cannot be read.
pub fn uid_map() -> io::Result<String> {
    match fs::read_to_string("/proc/self/uid_map") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(WHOLE.to_owned()),
        read => read,
    }
}

/// Whether a map has every user, each as itself.
pub fn is_whole_uid_map(map: &str) -> bool {
    map.split_whitespace().eq(WHOLE.split_whitespace())
}

/// Whether the kernel tells this process whose every connection of this machine is.
pub fn can_tell_users_apart() -> bool {
    cfg!(target_os = "linux") && uid_map().is_ok_and(|map| is_whole_uid_map(&map))
}

const WHOLE: &str = "0 0 4294967295";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_map_of_everybody_is_whole() {
        assert!(is_whole_uid_map("         0          0 4294967295\n"));

        // Of systemd's PrivateUsers=yes, of a rootless container, of a container with users of its own.
        let some = ["0 0 1\n990 990 1\n", "0 1000 1\n1 100000 65536\n", "0 100000 65536", "0 0 65536", ""];
        for map in some {
            assert!(!is_whole_uid_map(map), "{map:?}");
        }
    }
}
