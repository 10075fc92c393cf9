//! Descriptors that a service manager opened for this process and handed over (`LISTEN_FDS`, as in
//! sd_listen_fds(3)). Takes them; what they are for is not known here.
//!
//! No crate does this well enough: the usual ones hand out bare numbers, or know no names.

use std::{
    env,
    ffi::OsString,
    iter,
    os::fd::{FromRawFd, OwnedFd, RawFd},
};

/// What was handed over.
#[derive(Debug, Default)]
pub struct Passed {
    /// In the order of their numbers.
    pub descriptors: Vec<PassedDescriptor>,
    /// What the operator should look at although it works.
    pub warnings: Vec<String>,
}

/// A descriptor that came with a name.
#[derive(Debug)]
pub struct PassedDescriptor {
    /// `FileDescriptorName=`, or else the name of the socket unit; [`UNNAMED`] where nobody gave one.
    pub name: String,
    /// Its number at the start, by which people know it.
    pub number: RawFd,
    /// From now on closed with its owner, and when another program is started.
    pub descriptor: OwnedFd,
}

/// Takes what was handed to this process. To be called first of all: later, numbers might be those of
/// descriptors of ours. Its variables stay, since removing any is unsound beside threads; programs that the
/// daemon starts are not given them.
pub fn take_passed() -> Passed {
    let names = match promised(|name| env::var_os(name), std::process::id()) {
        Ok(names) => names,
        Err(warning) => return Passed { descriptors: Vec::new(), warnings: vec![warning] },
    };
    let mut passed = Passed::default();
    for (name, number) in iter::zip(&names, FIRST..) {
        let Some(descriptor) = take(number) else {
            passed.warnings.push(format!(
                "LISTEN_FDS promises {} descriptors, and number {number} is none of them; it and what follows is \
                 passed over. Was the daemon started by something that closes descriptors?",
                names.len()
            ));
            break;
        };
        passed.descriptors.push(PassedDescriptor { name: name.clone(), number, descriptor });
    }
    passed
}

/// The names of the descriptors that this process was promised: as many as there are descriptors.
fn promised(variable: impl Fn(&str) -> Option<OsString>, own_pid: u32) -> Result<Vec<String>, String> {
    let number = |name| {
        let text = variable(name)?;
        let parsed = text.to_str().and_then(|text| text.parse::<u32>().ok());
        Some(parsed.ok_or_else(|| format!("{name} is no number; descriptors that were passed are not used")))
    };
    let (Some(pid), Some(count)) = (number("LISTEN_PID"), number("LISTEN_FDS")) else { return Ok(Vec::new()) };
    let (pid, count) = (pid?, count?);
    if pid != own_pid {
        return Err(format!(
            "descriptors were passed to process {pid} (LISTEN_PID), and this is process {own_pid}; they are not used. \
             A program between the service manager and the daemon must become the daemon (exec), not start it"
        ));
    }
    let names = variable("LISTEN_FDNAMES").map(|names| names.to_string_lossy().into_owned());
    let names = names.iter().flat_map(|names| names.split(':')).map(str::to_owned);
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(COUNT_MAX);
    Ok(names.chain(iter::repeat(UNNAMED.to_owned())).take(count).collect())
}

#[expect(unsafe_code, reason = "these descriptors are known by their numbers only")]
fn take(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: reads the flags of a descriptor, or fails where there is none; any number will do.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    // One that is closed when a program starts cannot have come from outside: it is one of ours.
    if flags < 0 || flags & libc::FD_CLOEXEC != 0 {
        return None;
    }
    // SAFETY: the descriptor is open and came from outside, so nothing in this process owns it; it never will
    // be taken again, since it carries the flag from the next line on.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC).ok()?;
    Some(descriptor)
}

/// The name of a descriptor without one, as sd_listen_fds_with_names(3) has it.
pub const UNNAMED: &str = "unknown";
/// After standard input, output and error.
const FIRST: RawFd = 3;
/// Far more than anyone passes; a wrong number should not cost memory.
const COUNT_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn promised_by(variables: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        promised(find, 7)
    }

    #[test]
    fn each_descriptor_has_the_name_at_its_place() {
        let told = [("LISTEN_PID", "7"), ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "main:admin")];

        assert_eq!(promised_by(&told).unwrap(), ["main", "admin"]);
    }

    #[test]
    fn descriptors_without_a_name_and_names_without_a_descriptor_do_no_harm() {
        let count = ("LISTEN_FDS", "2");
        assert_eq!(promised_by(&[("LISTEN_PID", "7"), count]).unwrap(), [UNNAMED, UNNAMED]);

        let names = |names| promised_by(&[("LISTEN_PID", "7"), count, ("LISTEN_FDNAMES", names)]).unwrap();
        assert_eq!(names("main"), ["main", UNNAMED]);
        assert_eq!(names("main:main:admin"), ["main", "main"]);
    }

    #[test]
    fn nothing_is_promised_without_both_variables() {
        assert_eq!(promised_by(&[]), Ok(vec![]));
        assert_eq!(promised_by(&[("LISTEN_FDS", "1")]), Ok(vec![]));
        assert_eq!(promised_by(&[("LISTEN_PID", "7")]), Ok(vec![]));
        assert_eq!(promised_by(&[("LISTEN_PID", "7"), ("LISTEN_FDS", "0")]), Ok(vec![]));
    }

    #[test]
    fn what_another_process_was_promised_is_left_alone_and_said() {
        let warning = promised_by(&[("LISTEN_PID", "8"), ("LISTEN_FDS", "1")]).unwrap_err();

        assert!(warning.contains("process 8") && warning.contains("process 7"), "{warning}");
    }

    #[test]
    fn numbers_that_are_none_are_named() {
        for (name, variables) in [
            ("LISTEN_PID", [("LISTEN_PID", "x"), ("LISTEN_FDS", "1")]),
            ("LISTEN_FDS", [("LISTEN_PID", "7"), ("LISTEN_FDS", "-1")]),
        ] {
            assert!(promised_by(&variables).unwrap_err().starts_with(name));
        }
        let huge = promised_by(&[("LISTEN_PID", "7"), ("LISTEN_FDS", "4294967295")]).unwrap();
        assert_eq!(huge.len(), COUNT_MAX);
    }

    #[test]
    fn a_descriptor_of_our_own_is_never_taken() {
        use std::os::fd::AsRawFd;
        let file = std::fs::File::open("/dev/null").unwrap();

        assert!(take(file.as_raw_fd()).is_none());
        assert!(take(-1).is_none());
    }

    #[test]
    fn a_descriptor_from_outside_is_taken_once_and_not_passed_on() {
        use std::os::fd::IntoRawFd;
        let file = std::fs::File::open("/dev/null").unwrap();
        rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
        let number = file.into_raw_fd();

        let descriptor = take(number).unwrap();

        assert_eq!(rustix::io::fcntl_getfd(&descriptor).unwrap(), rustix::io::FdFlags::CLOEXEC);
        assert!(take(number).is_none());
    }
}
