//! A DNS server for the daemon's real resolver: what names mean, and whether anybody answers, is the
//! test's to decide while the daemon runs.
//!
//! It listens on an address of the loopback network that no other test has, and the daemon runs in a mount
//! namespace whose `/etc/resolv.conf` names that address and whose `/etc/nsswitch.conf` knows nothing but
//! DNS. The namespace belongs to the daemon, so nothing is left behind when it ends.

use super::{DEADLINE, SettingsFile};
use std::{
    collections::HashMap,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    process::Command,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};
use tempfile::TempDir;

/// A running server; answers no more once dropped.
pub(crate) struct Names {
    address: SocketAddr,
    shared: Arc<Shared>,
    answering: Option<thread::JoinHandle<()>>,
    folder: TempDir,
}

/// What becomes of a question.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// These addresses, each to the question for its family; they may be none.
    Addresses(Vec<IpAddr>),
    /// NXDOMAIN, which is also what a name that was never set gets.
    NoSuchName,
    /// SERVFAIL.
    ServerFails,
    /// Nothing comes back. The resolver gives up after a second.
    Silence,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<HashMap<String, Answer>>,
    lookups: Mutex<HashMap<String, usize>>,
    changed: Condvar,
    stopping: AtomicBool,
}

impl Names {
    /// A server that knows no name yet; none, and the reason on the screen, without the right to a mount
    /// namespace and to port 53 (root).
    pub(crate) fn start() -> Option<Self> {
        let Some(socket) = bind() else {
            println!("skipped: no server on port 53 of a loopback address (run as root)");
            return None;
        };
        let address = socket.local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let resolver = format!("nameserver {}\noptions timeout:1 attempts:1\n", address.ip());
        fs::write(folder.path().join("resolv.conf"), resolver).unwrap();
        fs::write(folder.path().join("nsswitch.conf"), "hosts: dns\n").unwrap();
        let shared = Arc::new(Shared::default());
        let answers = Arc::clone(&shared);
        let answering = Some(thread::spawn(move || answers.serve(&socket)));
        let names = Self { address, shared, answering, folder };
        let words = names.wrapper();
        if !Command::new(&words[0]).args(&words[1..]).arg("true").status().is_ok_and(|status| status.success()) {
            println!("skipped: no mount namespace for a resolver of its own (run as root)");
            return None;
        }
        Some(names)
    }

    /// The daemon of these settings asks this server, and nobody else, for every name.
    pub(crate) fn resolving(&self, settings: SettingsFile) -> SettingsFile {
        let words = self.wrapper();
        settings.behind(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// What `name` means from now on.
    pub(crate) fn set(&self, name: &str, answer: Answer) {
        self.shared.answers.lock().unwrap().insert(name.to_ascii_lowercase(), answer);
    }

    /// How often `name` was looked up: counted are the questions for IPv4 addresses, since every lookup
    /// asks one, beside one for IPv6.
    pub(crate) fn lookups(&self, name: &str) -> usize {
        self.shared.lookups.lock().unwrap().get(name).copied().unwrap_or(0)
    }

    /// Waits until `name` was looked up `count` times since the start.
    #[track_caller]
    pub(crate) fn wait_for_lookups(&self, name: &str, count: usize) {
        let lookups = self.shared.lookups.lock().unwrap();
        let too_few = |lookups: &mut HashMap<String, usize>| lookups.get(name).copied().unwrap_or(0) < count;
        let (lookups, waited) = self.shared.changed.wait_timeout_while(lookups, DEADLINE, too_few).unwrap();
        assert!(!waited.timed_out(), "{name} was not looked up {count} times: {lookups:?}");
    }

    /// Becomes the words that follow it, with name resolution of its own.
    fn wrapper(&self) -> Vec<String> {
        let script = "mount --bind \"$0/resolv.conf\" /etc/resolv.conf && \
                      mount --bind \"$0/nsswitch.conf\" /etc/nsswitch.conf && exec \"$@\"";
        let folder = self.folder.path().to_str().unwrap();
        ["unshare", "--mount", "sh", "-c", script, folder].map(str::to_owned).into()
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // Wakes the answering thread.
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.send_to(b"", self.address)).ok();
        if let Some(answering) = self.answering.take() {
            answering.join().ok();
        }
    }
}

/// Port 53 of an address of this process: all of 127.0.0.0/8 is the loopback's, and its upper half holds
/// every process ID. A second server of the process takes the place of another one's, if that is free.
fn bind() -> Option<UdpSocket> {
    (0..20_u32).find_map(|step| {
        let [_, a, b, c] = std::process::id().wrapping_add(step * 7919).to_be_bytes();
        UdpSocket::bind((Ipv4Addr::new(127, 128 | a, b, c), 53)).ok()
    })
}

impl Shared {
    fn serve(&self, socket: &UdpSocket) {
        let mut packet = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut packet) {
            if self.stopping.load(Ordering::Relaxed) {
                return;
            }
            if let Some(answer) = Question::read(&packet[..length]).and_then(|question| self.answer(&question)) {
                socket.send_to(&answer, client).ok();
            }
        }
    }

    fn answer(&self, question: &Question<'_>) -> Option<Vec<u8>> {
        let answer = self.answers.lock().unwrap().get(&question.name).cloned().unwrap_or(Answer::NoSuchName);
        if question.kind == A {
            *self.lookups.lock().unwrap().entry(question.name.clone()).or_default() += 1;
            self.changed.notify_all();
        }
        match answer {
            Answer::Addresses(addresses) => Some(question.answered(0, &addresses)),
            Answer::NoSuchName => Some(question.answered(3, &[])),
            Answer::ServerFails => Some(question.answered(2, &[])),
            Answer::Silence => None,
        }
    }
}

/// The one question of a query (RFC 1035, section 4).
struct Question<'a> {
    id: &'a [u8],
    /// As it came, with type and class.
    bytes: &'a [u8],
    name: String,
    kind: u16,
}

impl<'a> Question<'a> {
    fn read(packet: &'a [u8]) -> Option<Self> {
        let (header, rest) = packet.split_at_checked(12)?;
        let (mut labels, mut at) = (Vec::new(), 0);
        loop {
            let length = usize::from(*rest.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            labels.push(String::from_utf8_lossy(rest.get(at..at + length)?).to_ascii_lowercase());
            at += length;
        }
        let bytes = rest.get(..at + 4)?;
        let kind = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        Some(Self { id: &header[..2], bytes, name: labels.join("."), kind })
    }

    /// A response with this code and the addresses of the family that was asked for.
    fn answered(&self, code: u8, addresses: &[IpAddr]) -> Vec<u8> {
        let wanted = addresses.iter().filter_map(|address| match address {
            IpAddr::V4(v4) if self.kind == A => Some(v4.octets().to_vec()),
            IpAddr::V6(v6) if self.kind == AAAA => Some(v6.octets().to_vec()),
            _ => None,
        });
        // The name by its place in the packet, type, class IN, a time to live of 0, length, address.
        let record = |address: Vec<u8>| {
            let [high, low] = self.kind.to_be_bytes();
            [&[0xc0, 12, high, low, 0, 1, 0, 0, 0, 0, 0, address.len() as u8][..], &address].concat()
        };
        let records = wanted.map(record).collect::<Vec<_>>();
        // A response that is authoritative and recursive; one question, the records, nothing else.
        let counts = [0, 1, 0, records.len() as u8, 0, 0, 0, 0];
        [self.id, &[0x85, 0x80 | code], &counts, self.bytes, &records.concat()].concat()
    }
}

const A: u16 = 1;
const AAAA: u16 = 28;
