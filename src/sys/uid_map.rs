//! Which users the kernel shows to this process. In a user namespace that maps some of them only, all the
//! others look like one (65534), and nobody can be told from them.

use std::{fs, io, sync::LazyLock};

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

/// Whether this user is root or the one that this process acts as, and could do anyhow what this process does. The
/// number that stands for all users whom the kernel does not show to this process is nobody's own.
pub fn is_own_user(uid: u32) -> bool {
    /// A process keeps its user and its map, and every client is asked about.
    static LOOKS_LIKE_OTHERS: LazyLock<bool> =
        LazyLock::new(|| stands_for_others(super::own_uid(), overflow_uid(), &uid_map()));
    uid == 0 || (uid == super::own_uid() && !*LOOKS_LIKE_OTHERS)
}

fn stands_for_others(uid: u32, overflow: u32, map: &io::Result<String>) -> bool {
    uid == overflow && !map.as_ref().is_ok_and(|map| is_whole_uid_map(map))
}

/// What the kernel shows for users that a map does not have.
fn overflow_uid() -> u32 {
    let said = fs::read_to_string("/proc/sys/kernel/overflowuid").ok();
    said.and_then(|said| said.trim().parse().ok()).unwrap_or(OVERFLOW_UID)
}

/// The kernel's own choice.
const OVERFLOW_UID: u32 = 65534;
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

    #[test]
    fn the_number_that_all_others_look_like_is_nobodys_own_where_there_are_others() {
        let (whole, some) = (Ok(WHOLE.to_owned()), Ok("0 0 1\n990 990 1".to_owned()));
        let unknown = Err(io::Error::other("a test"));

        assert!(!stands_for_others(65534, 65534, &whole) && !stands_for_others(990, 65534, &some));
        assert!(stands_for_others(65534, 65534, &some) && stands_for_others(65534, 65534, &unknown));
        assert!(is_own_user(0) && is_own_user(super::super::own_uid()));
        assert!(!is_own_user(super::super::own_uid() + 1));
    }
}
