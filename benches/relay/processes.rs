//! What the kernel knows of a process and its children, and which programs there are.

use crate::harness::{DEADLINE, postgres::program, process};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// Processor time of the process and its children, in seconds.
pub(crate) fn cpu_seconds(process: u32) -> f64 {
    // In the kernel's hundredths of a second, user and system.
    let ticks = |fields: Vec<String>| fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    family(process).into_iter().filter_map(stat).map(ticks).sum::<f64>() / 100.0
}

/// Memory of the process and its children in KiB, with their shares of pages that they have in common with others.
pub(crate) fn proportional_kib(process: u32) -> f64 {
    let of_one = |process| {
        let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
        let line = text.lines().find(|line| line.starts_with("Pss:"))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    };
    family(process).into_iter().filter_map(of_one).sum()
}

/// The same once it no longer moves, which nothing announces.
pub(crate) fn settled_kib(process: u32) -> f64 {
    let end = Instant::now() + DEADLINE;
    let mut last = proportional_kib(process);
    loop {
        thread::sleep(Duration::from_millis(400));
        let now = proportional_kib(process);
        if (now - last).abs() < 64.0 {
            return now;
        }
        assert!(Instant::now() < end, "memory of process {process} does not come to rest: {last} KiB, {now} KiB");
        last = now;
    }
}

/// What this process and its children may have open from now on.
pub(crate) fn raise_descriptors() -> u64 {
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }).unwrap();
    hard.unwrap_or(u64::MAX)
}

/// The process and all that descend from it.
fn family(process: u32) -> Vec<u32> {
    let numbers = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parents =
        numbers.filter_map(|child: u32| Some((child, stat(child)?[1].parse().unwrap()))).collect::<Vec<(_, u32)>>();
    let mut family = vec![process];
    let mut at = 0;
    while let Some(&parent) = family.get(at) {
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| child));
        at += 1;
    }
    family
}

/// The fields of /proc/PID/stat after the name, which may hold anything: state, parent, and so on.
fn stat(process: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(") ")?;
    Some(after_name.split(' ').map(str::to_owned).collect())
}

/// Where a program is; not everybody's `PATH` has the folders of those that are services.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// What a program says first of its version, if it is there.
pub(crate) fn first_line(name: &str, argument: &str) -> Option<String> {
    let is_of_postgres = ["postgres", "pgbench", "psql"].contains(&name);
    let found = if is_of_postgres { program(name) } else { find_program(name)? };
    output(&found, argument)
}

/// The first line that a program writes with this argument.
pub(crate) fn output(program: &Path, argument: &str) -> Option<String> {
    let finished = process::run(Command::new(program).arg(argument), "", DEADLINE);
    Some(finished.stdout.lines().next()?.to_owned())
}
