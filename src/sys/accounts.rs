//! Users and groups of this machine by name, as `/etc/passwd` and `/etc/group` have them. Knows those of no
//! directory service (LDAP, SSSD); their numbers can be written instead.

use std::{fs, io};

/// The number of a user.
///
/// # Errors
/// There is no such user, or the file cannot be read.
pub fn user_id(name: &str) -> io::Result<u32> {
    look_up("/etc/passwd", "user", name)
}

/// The number of a group.
///
/// # Errors
/// There is no such group, or the file cannot be read.
pub fn group_id(name: &str) -> io::Result<u32> {
    look_up("/etc/group", "group", name)
}

fn look_up(file: &str, what: &str, name: &str) -> io::Result<u32> {
    let text = fs::read(file).map_err(|error| io::Error::new(error.kind(), format!("{file}: {error}")))?;
    find(&String::from_utf8_lossy(&text), name).ok_or_else(|| {
        let rule = format!("{file} has no {what} \"{name}\"; one of a directory service can be given by its number");
        io::Error::new(io::ErrorKind::InvalidInput, rule)
    })
}

/// Both files have the name first and the number third.
fn find(text: &str, name: &str) -> Option<u32> {
    let mut lines = text.lines().map(|line| line.split(':'));
    let mut fields = lines.find(|fields| fields.clone().next() == Some(name))?;
    fields.nth(2)?.parse().ok().filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_whole_and_by_its_first_field() {
        let text = "root:x:0:0:root:/root:/bin/sh\n# odd\nroots:x:7:7::/:\nodd:x:minus:1\n\nlast:x:65534:1::";

        assert_eq!(["root", "roots", "last"].map(|name| find(text, name)), [Some(0), Some(7), Some(65534)]);
        assert_eq!(["roo", "x", "odd", ""].map(|name| find(text, name)), [None; 4]);
    }

    #[test]
    fn who_is_not_there_is_told_by_name() {
        assert_eq!(user_id("root").unwrap(), 0);

        assert!(user_id("nobody-of-this-name").unwrap_err().to_string().contains("\"nobody-of-this-name\""));
        assert!(group_id("no-such-group").unwrap_err().to_string().contains("/etc/group"));
    }
}
