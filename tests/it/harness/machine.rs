//! A machine of its own: Debian as `tests/run` keeps it, with systemd as its first process, in namespaces that end with
//! that process. Its files lie above the kept ones, in memory; the test itself can step into its network.

use super::{
    DEADLINE,
    markdown::root,
    process::{self, Finished, Lines, mortal},
};
use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use std::{
    fs::{self, File},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};
use tempfile::TempDir;

/// A running machine; gone with everything in it once dropped.
pub(crate) struct Machine {
    unshare: Child,
    output: Arc<Lines>,
    /// The first process, by the number that it has out here.
    leader: String,
    group: Group,
    /// What it is mounted on.
    _folder: TempDir,
}

/// What runs in it from the beginning.
#[derive(Clone, Copy, PartialEq)]
enum First {
    Systemd,
    Nothing,
}

impl Machine {
    /// Starts one and waits until systemd has started what a system needs. None, and the reason on the screen, where
    /// that cannot be done.
    pub(crate) fn boot() -> Option<Self> {
        Self::start(First::Systemd)
    }

    /// The same without any service manager, as a container is.
    pub(crate) fn without_systemd() -> Option<Self> {
        Self::start(First::Nothing)
    }

    fn start(first: First) -> Option<Self> {
        let kept = root().join("target/test-env/debian");
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can start a machine in namespaces");
            return None;
        }
        if !kept.join("usr/lib/systemd/systemd").exists() {
            println!(
                "skipped: there is no {}; tests/run makes it where a Debian mirror can be reached",
                kept.display()
            );
            return None;
        }
        let group = Group::new()?;
        let folder = tempfile::Builder::new().prefix("crdb-proxy-machine-").tempdir().unwrap();
        // Opened for both ways, so that neither end waits for the other.
        let told = folder.path().join("told");
        mknodat(CWD, &told, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let booted = Lines::of(File::options().read(true).write(true).open(&told).unwrap());
        let mut command = mortal(Path::new("sh"), "KILL", None);
        command.args(["-e", "-c", INTO_NAMESPACES]).arg(&group.folder).args(["sh", "-e", "-c", START]);
        command.arg(kept).arg(folder.path()).arg(if first == First::Systemd { SYSTEMD } else { NOTHING });
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut unshare = command.spawn().unwrap();
        let output = Lines::of(unshare.stdout.take().unwrap());
        let complaints = Lines::of(unshare.stderr.take().unwrap());
        let leader = output.find(|line| line.strip_prefix("leader ").map(str::to_owned));
        let machine = leader.map(|leader| Self { unshare, output, leader, group, _folder: folder });
        let is_up = machine.is_some() && booted.find(|line| (line == "booted").then_some(())).is_some();
        assert!(is_up, "the machine does not start: {}", complaints.all().join("\n"));
        machine
    }

    /// From here on this thread, and those that it starts, are in the machine's network: what they bind and connect
    /// to is there.
    pub(crate) fn enter_network(&self) {
        let network = File::open(format!("/proc/{}/ns/net", self.leader)).unwrap();
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }

    /// Runs a command in it as root.
    #[track_caller]
    pub(crate) fn run(&self, words: &[&str]) -> Finished {
        self.feed(words, "")
    }

    /// Runs a shell script in it as root; gives what it writes.
    #[track_caller]
    pub(crate) fn shell(&self, script: &str) -> String {
        self.run(&["sh", "-e", "-c", script]).expect_success()
    }

    /// Writes a file.
    #[track_caller]
    pub(crate) fn write(&self, path: &str, text: &str) {
        let script = "mkdir -p \"$(dirname \"$0\")\"; cat > \"$0\"";
        self.feed(&["sh", "-e", "-c", script, path], text).expect_success();
    }

    /// Puts a file of this side into its folder /root.
    #[track_caller]
    pub(crate) fn bring(&self, file: &Path) {
        let place = format!("/root/{}", file.file_name().unwrap().display());
        fs::copy(file, self.path(&place)).unwrap();
    }

    /// Where a file of the machine is, seen from here.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.leader))
    }

    /// Takes all addresses of IPv6 away, as a boot with `ipv6.disable_ipv6=1` does.
    pub(crate) fn turn_off_ipv6(&self) {
        let write = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6";
        let mut command = Command::new("nsenter");
        process::run(command.args(["--target", &self.leader, "--net", "sh", "-c", write]), "", DEADLINE)
            .expect_success();
    }

    /// The lines of a unit's journal, past and coming.
    pub(crate) fn journal(&self, unit: &str) -> Journal {
        let mut command = self.command();
        command.args(["journalctl", "--follow", "--lines=all", "--output=cat", "--unit", unit]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        Journal { lines: Lines::of(child.stdout.take().unwrap()), child }
    }

    /// A property of a unit, as systemd knows it.
    #[track_caller]
    pub(crate) fn property(&self, unit: &str, name: &str) -> String {
        self.run(&["systemctl", "show", "--value", "--property", name, unit]).expect_success()
    }

    fn feed(&self, words: &[&str], input: &str) -> Finished {
        process::run(self.command().args(words), input, DEADLINE)
    }

    fn command(&self) -> Command {
        let mut command = mortal(Path::new("nsenter"), "KILL", None);
        command.args(["--target", &self.leader, "--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup"]);
        command.args(["--wdns=/", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive"]);
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let journal = self.command().args(["journalctl", "--no-pager", "--lines=50"]).output();
            let journal =
                journal.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
            eprintln!("--- the machine's output\n{}\n--- its journal\n{journal}", process::tail(&self.output.all()));
        }
        // With the first process all others of its namespace end, and it is not gone before they are.
        if let Some(leader) = self.leader.parse().ok().and_then(rustix::process::Pid::from_raw) {
            rustix::process::kill_process(leader, rustix::process::Signal::KILL).ok();
        }
        self.unshare.wait().ok();
        self.group.remove();
    }
}

/// A unit's journal, as it grows.
pub(crate) struct Journal {
    lines: Arc<Lines>,
    child: Child,
}

impl Journal {
    /// Waits for a line that has all of these words.
    #[track_caller]
    pub(crate) fn wait_for(&self, words: &[&str]) -> String {
        self.wait_for_nth(1, words)
    }

    /// Waits for the line that is the `count`th to have all of these words.
    #[track_caller]
    pub(crate) fn wait_for_nth(&self, count: usize, words: &[&str]) -> String {
        let seen = std::cell::Cell::new(0);
        let nth = |line: &str| {
            let has = words.iter().all(|word| line.contains(word));
            seen.set(seen.get() + usize::from(has));
            (has && seen.get() == count).then(|| line.to_owned())
        };
        self.lines.find(nth).unwrap_or_else(|| panic!("no line {count} with {words:?} in {:#?}", self.lines.all()))
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A control group in which systemd can make those of its units.
struct Group {
    folder: PathBuf,
}

impl Group {
    fn new() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let is_of_groups = |line: &&str| line.split_once(" - ").is_some_and(|(_, kind)| kind.starts_with("cgroup2 "));
        let place = mounts.lines().find(is_of_groups).and_then(|line| line.split(' ').nth(4));
        let made = place.and_then(|place| {
            tempfile::Builder::new().prefix("crdb-proxy-test-").tempdir_in(place).map(TempDir::keep).ok()
        });
        if made.is_none() {
            println!("skipped: systemd needs control groups of version 2 in which this process may make its own");
        }
        made.map(|folder| Self { folder })
    }

    /// The groups in it are empty by now, and its files go with it.
    fn remove(&self) {
        let mut find = Command::new("find");
        find.arg(&self.folder).args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]);
        let removed = process::run(&mut find, "", DEADLINE);
        if !std::thread::panicking() {
            removed.expect_success();
        }
    }
}

/// Arguments: the control group, and what to become.
const INTO_NAMESPACES: &str = "
echo $$ > \"$0/cgroup.procs\"
exec unshare --mount --pid --fork --kill-child=KILL --ipc --uts --net --cgroup \"$@\"
";

/// Arguments: the kept system, the test's folder, and what to do in it. It is the namespaces' first process; of the
/// kernel's settings, which are everybody's, it can change none.
const START: &str = "
read -r leader rest < /proc/self/stat
kept=$0 folder=$1 root=$1/root
mount --make-rprivate /
mkdir \"$folder/space\" \"$root\"
mount -t tmpfs tmpfs \"$folder/space\"
mkdir \"$folder/space/upper\" \"$folder/space/work\"
mount -t overlay -o \"lowerdir=$kept,upperdir=$folder/space/upper,workdir=$folder/space/work\" overlay \"$root\"
mount -t proc proc \"$root/proc\"
mount --bind \"$root/proc/sys\" \"$root/proc/sys\"
mount -o remount,bind,ro \"$root/proc/sys\"
mount -t sysfs -o ro sysfs \"$root/sys\"
mount -t cgroup2 cgroup2 \"$root/sys/fs/cgroup\"
mount -t tmpfs -o mode=755 tmpfs \"$root/run\"
mount -t tmpfs -o mode=755 tmpfs \"$root/dev\"
for device in null zero full random urandom tty; do
    touch \"$root/dev/$device\"
    mount --bind \"/dev/$device\" \"$root/dev/$device\"
done
mkdir \"$root/dev/pts\" \"$root/dev/shm\" \"$root/old\"
mount -t devpts -o newinstance,ptmxmode=0666 devpts \"$root/dev/pts\"
ln -s pts/ptmx \"$root/dev/ptmx\"
mount -t tmpfs tmpfs \"$root/dev/shm\"
touch \"$root/run/told\"
mount --bind \"$folder/told\" \"$root/run/told\"
echo machine > \"$root/etc/hostname\"
cat > \"$root/etc/systemd/system/told.service\" <<'end'
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo booted > /run/told'
end
cd \"$root\"
pivot_root . old
umount -l old
mount --make-rshared /
echo \"leader $leader\"
eval \"$2\"
";

const SYSTEMD: &str = "exec env -i container=test PATH=/usr/sbin:/usr/bin /lib/systemd/systemd --unit=told.service";
const NOTHING: &str = "echo booted > /run/told; exec sleep infinity";
