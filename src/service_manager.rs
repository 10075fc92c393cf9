//! What started the daemon and watches over it (systemd, or what speaks like it), as far as it wants to be
//! told: ready, reloading, stopping, status, still alive; see sd_notify(3). Where nothing listens, nothing is
//! said. No message ever ends the daemon or holds it up.
//!
//! Written by hand since the crates for it connect to paths only, and containers pass abstract sockets.

use rustix::time::{ClockId, clock_gettime};
use std::{
    env,
    ffi::OsString,
    fmt::Write,
    io,
    os::unix::{
        ffi::OsStrExt,
        net::{SocketAddr, UnixDatagram},
    },
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tracing::{debug, warn};

/// The way to the service manager; without one, every call does nothing.
#[derive(Debug)]
pub struct ServiceManager {
    link: Option<Link>,
    watchdog: Option<Duration>,
}

#[derive(Debug)]
struct Link {
    socket: UnixDatagram,
    address: SocketAddr,
    told: Mutex<Told>,
}

/// What need not be said again.
#[derive(Debug, Default)]
struct Told {
    status: String,
    /// The operator knows that messages do not get through.
    is_broken: bool,
}

/// The variables by which a service manager speaks to this process and no other: programs that it starts must
/// not be given them.
pub const VARIABLES: [&str; 6] =
    ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

impl ServiceManager {
    /// Nobody who wants to be told.
    pub fn none() -> Self {
        Self { link: None, watchdog: None }
    }

    /// As the environment says. What is wrong there is warned about once, here.
    pub fn from_env() -> Self {
        Self::from_variables(|name| env::var_os(name), std::process::id())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>, own_pid: u32) -> Self {
        let given = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let link = given.and_then(|name| {
            let opened = Link::open(&name);
            let warn = |error: &io::Error| {
                warn!(notify.socket = %name.display(), %error, "the service manager cannot be told anything");
            };
            opened.inspect_err(warn).ok()
        });
        let watchdog = watchdog(variable, own_pid);
        if watchdog.is_some() && link.is_none() {
            warn!(
                "there is a watchdog (WATCHDOG_USEC) and no socket to answer it (NOTIFY_SOCKET); it will end the \
                 daemon unless the unit has Type=notify or NotifyAccess=main"
            );
        }
        Self { watchdog: watchdog.filter(|_| link.is_some()), link }
    }

    /// Whether anybody is told anything.
    pub fn is_there(&self) -> bool {
        self.link.is_some()
    }

    /// How often [`Self::keep_alive`] is to be called: half of what the watchdog waits.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|watchdog| watchdog / 2)
    }

    /// It serves: said once all sockets are bound, and after each reload, whether that changed anything or not.
    pub fn ready(&self, status: &str) {
        self.tell("READY=1", Some(status));
    }

    /// It reads its settings anew; [`Self::ready`] must follow.
    pub fn reloading(&self) {
        // Tells this reload's messages from those of an earlier one.
        let now = Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default();
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()), None);
    }

    /// It has begun to stop, and may take so long until its end, whatever the unit's `TimeoutStopSec=` says.
    pub fn stopping(&self, status: &str, longest: Duration) {
        self.tell(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", longest.as_micros()), Some(status));
    }

    /// What it does now, for people. Said only when it has changed, so may be called often.
    pub fn status(&self, status: &str) {
        self.tell("", Some(status));
    }

    /// It is alive; said where a watchdog wants to hear it. To be called by what would not get to it if it were not.
    pub fn keep_alive(&self) {
        if self.watchdog.is_some() {
            self.tell("WATCHDOG=1", None);
        }
    }

    fn tell(&self, state: &str, status: Option<&str>) {
        let Some(link) = &self.link else { return };
        let mut told = link.told.lock().unwrap_or_else(PoisonError::into_inner);
        let status = status.map(line).filter(|status| *status != told.status);
        let mut message = state.to_owned();
        if let Some(status) = &status {
            // Writing to a string cannot fail.
            let _ = write!(message, "{}STATUS={status}", if state.is_empty() { "" } else { "\n" });
        }
        if message.is_empty() {
            return;
        }
        match link.socket.send_to_addr(message.as_bytes(), &link.address) {
            Ok(_) => {
                told.is_broken = false;
                if let Some(status) = status {
                    told.status = status;
                }
            }
            Err(error) if told.is_broken => debug!(%error, "the service manager was not told"),
            Err(error) => {
                told.is_broken = true;
                warn!(
                    notify.socket = ?link.address, %error,
                    "the service manager was not told (NOTIFY_SOCKET); it may take the daemon for dead"
                );
            }
        }
    }
}

impl Link {
    fn open(name: &OsString) -> io::Result<Self> {
        let address = address(name.as_bytes())?;
        let socket = UnixDatagram::unbound()?;
        // A manager that has stopped reading must not hold up sessions for long.
        socket.set_write_timeout(Some(SEND_LIMIT))?;
        Ok(Self { socket, address, told: Mutex::default() })
    }
}

/// `/path` or `@abstract`.
fn address(name: &[u8]) -> io::Result<SocketAddr> {
    match name {
        [b'/', ..] => SocketAddr::from_pathname(Path::new(std::ffi::OsStr::from_bytes(name))),
        #[cfg(target_os = "linux")]
        [b'@', rest @ ..] => {
            use std::os::linux::net::SocketAddrExt;
            SocketAddr::from_abstract_name(rest)
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it must begin with / or @")),
    }
}

/// How long the watchdog waits, if it means this process.
fn watchdog(variable: impl Fn(&str) -> Option<OsString>, own_pid: u32) -> Option<Duration> {
    let number = |name| -> Option<Result<u64, ()>> {
        let text = variable(name)?;
        let parsed = text.to_str().and_then(|text| text.parse::<u64>().ok());
        if parsed.is_none() {
            warn!(variable = name, "not a number; the watchdog is not answered");
        }
        Some(parsed.ok_or(()))
    };
    let (limit, pid) = (number("WATCHDOG_USEC")?.ok()?, number("WATCHDOG_PID").transpose().ok()?);
    let means_us = pid.is_none_or(|pid| pid == u64::from(own_pid));
    (limit > 0 && means_us).then(|| Duration::from_micros(limit))
}

/// A line end would begin another message.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What the status says while it serves.
pub fn serving(sessions: usize, endpoints_well: usize, endpoints: usize) -> String {
    let s = if sessions == 1 { "" } else { "s" };
    let of = if endpoints == 1 { "endpoint" } else { "endpoints" };
    format!("serving {sessions} session{s}; {endpoints_well} of {endpoints} {of} well")
}

const SEND_LIMIT: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::PathBuf};

    const PID: u32 = 7;

    fn manager(variables: &[(&str, &str)]) -> ServiceManager {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        ServiceManager::from_variables(find, PID)
    }

    /// A manager that listens on a path.
    struct Listening {
        socket: UnixDatagram,
        folder: tempfile::TempDir,
    }

    impl Listening {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
            socket.set_nonblocking(true).unwrap();
            Self { socket, folder }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("notify")
        }

        fn manager(&self) -> ServiceManager {
            manager(&[("NOTIFY_SOCKET", self.path().to_str().unwrap()), ("WATCHDOG_USEC", "30000000")])
        }

        /// A datagram is there as soon as it has been sent.
        fn next(&self) -> Option<String> {
            received(&self.socket)
        }
    }

    fn received(socket: &UnixDatagram) -> Option<String> {
        let mut space = [0; 4096];
        let length = socket.recv(&mut space).ok()?;
        Some(String::from_utf8(space[..length].to_vec()).unwrap())
    }

    #[test]
    fn each_turn_of_its_life_is_told_in_one_message() {
        let listening = Listening::new();
        let manager = listening.manager();

        manager.ready("serving 0 sessions; 1 of 1 endpoint well");
        manager.stopping("stopping", Duration::from_secs(60));
        manager.keep_alive();

        assert_eq!(listening.next().unwrap(), "READY=1\nSTATUS=serving 0 sessions; 1 of 1 endpoint well");
        assert_eq!(listening.next().unwrap(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=60000000\nSTATUS=stopping");
        assert_eq!(listening.next().unwrap(), "WATCHDOG=1");
        assert_eq!(listening.next(), None);
    }

    #[test]
    fn a_reload_is_told_with_the_time_at_which_it_began() {
        let listening = Listening::new();
        let now = || Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap().as_micros();

        let before = now();
        listening.manager().reloading();

        let message = listening.next().unwrap();
        let at = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse::<u128>().unwrap();
        assert!((before..=now()).contains(&at), "{message}");
    }

    #[test]
    fn a_status_is_told_when_it_has_changed_and_cannot_forge_a_message() {
        let listening = Listening::new();
        let manager = listening.manager();

        manager.status("one");
        manager.status("one");
        manager.ready("one");
        manager.status("two\nMAINPID=1");

        assert_eq!(listening.next().unwrap(), "STATUS=one");
        assert_eq!(listening.next().unwrap(), "READY=1");
        assert_eq!(listening.next().unwrap(), "STATUS=two MAINPID=1");
        assert_eq!(listening.next(), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_abstract_socket_is_one_too() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("crdb-proxy-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();

        manager(&[("NOTIFY_SOCKET", &format!("@{name}"))]).status("one");

        assert_eq!(received(&socket).unwrap(), "STATUS=one");
    }

    #[test]
    fn without_a_socket_nothing_is_said_and_nothing_fails() {
        for manager in [manager(&[]), manager(&[("NOTIFY_SOCKET", "")]), manager(&[("NOTIFY_SOCKET", "relative")])] {
            assert!(!manager.is_there());
            manager.ready("serving");
        }
    }

    #[test]
    fn a_manager_that_comes_back_is_told_the_status_again() {
        let listening = Listening::new();
        let manager = listening.manager();
        fs::remove_file(listening.path()).unwrap();
        manager.status("one");
        manager.status("one");

        let again = UnixDatagram::bind(listening.path()).unwrap();
        manager.status("one");

        assert_eq!(received(&again).unwrap(), "STATUS=one");
    }

    #[test]
    fn a_manager_that_reads_nothing_does_not_hold_anything_up_for_long() {
        let listening = Listening::new();
        let manager = listening.manager();
        let begun = std::time::Instant::now();
        let is_full = || manager.link.as_ref().unwrap().told.lock().unwrap().is_broken;
        while !is_full() {
            manager.keep_alive();
            assert!(begun.elapsed() < Duration::from_secs(20), "its queue never fills");
        }

        manager.keep_alive();

        assert!(is_full() && begun.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn the_watchdog_is_answered_twice_in_its_time_by_the_process_it_means() {
        let listening = Listening::new();
        let path = listening.path();
        let socket = ("NOTIFY_SOCKET", path.to_str().unwrap());
        let interval = |more: &[(&str, &str)]| manager(&[&[socket], more].concat()).watchdog_interval();
        let limit = ("WATCHDOG_USEC", "30000000");

        assert_eq!(interval(&[limit]), Some(Duration::from_secs(15)));
        assert_eq!(interval(&[limit, ("WATCHDOG_PID", "7")]), Some(Duration::from_secs(15)));
        assert_eq!(interval(&[limit, ("WATCHDOG_PID", "8")]), None);
        assert_eq!(interval(&[limit, ("WATCHDOG_PID", "x")]), None);
        for none in ["0", "x", "-1"] {
            assert_eq!(interval(&[("WATCHDOG_USEC", none)]), None, "{none}");
        }
        assert_eq!(manager(&[limit]).watchdog_interval(), None, "without a socket");
    }

    #[test]
    fn the_status_counts_sessions_and_endpoints() {
        assert_eq!(serving(3, 2, 3), "serving 3 sessions; 2 of 3 endpoints well");
        assert_eq!(serving(1, 0, 1), "serving 1 session; 0 of 1 endpoint well");
    }
}
