//! What the kernel knows of this process.

use std::time::Duration;

/// What it uses, and since when it runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessFacts {
    /// User and system time, of all its threads.
    pub cpu: Duration,
    /// Descriptors that are open.
    pub open_descriptors: u64,
    /// Descriptors that may be; `None` is unlimited.
    pub most_descriptors: Option<u64>,
    /// In bytes.
    pub resident: u64,
    /// In bytes.
    pub virtual_memory: u64,
    /// Threads that run or wait.
    pub threads: u64,
    /// How long it has been running, time asleep included.
    pub age: Duration,
}

/// Asks the kernel; `None` where it does not say.
#[cfg(target_os = "linux")]
pub fn process_facts() -> Option<ProcessFacts> {
    use rustix::{
        param::{clock_ticks_per_second, page_size},
        process::{Resource, getrlimit},
    };
    use std::fs;

    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // proc(5): the name before may hold anything; after it the state is the third field.
    let (_, after_name) = stat.rsplit_once(") ")?;
    let field = |number: usize| after_name.split(' ').nth(number.checked_sub(3)?)?.parse::<u64>().ok();
    let of_ticks = |ticks: u64| {
        let milliseconds = ticks.saturating_mul(1000).checked_div(clock_ticks_per_second())?;
        Some(Duration::from_millis(milliseconds))
    };
    let pages = u64::try_from(page_size()).ok()?;
    // The one that reads the folder is gone when it has.
    let open = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    Some(ProcessFacts {
        cpu: of_ticks(field(14)?.saturating_add(field(15)?))?,
        open_descriptors: u64::try_from(open).ok()?,
        most_descriptors: getrlimit(Resource::Nofile).current,
        resident: field(24)?.saturating_mul(pages),
        virtual_memory: field(23)?,
        threads: field(20)?,
        // Not from the time of boot in /proc/stat, which a sandbox hides.
        age: super::time_since_boot().saturating_sub(of_ticks(field(22)?)?),
    })
}

/// The kernel is not asked here.
#[cfg(not(target_os = "linux"))]
pub fn process_facts() -> Option<ProcessFacts> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn it_says_what_this_process_has_done() {
        let before = process_facts().unwrap();
        let (start, mut work) = (Instant::now(), 1_u64);
        while process_facts().unwrap().cpu == before.cpu && start.elapsed() < Duration::from_secs(20) {
            work = (0..100_000).fold(work, |work, step| std::hint::black_box(work.wrapping_mul(31).wrapping_add(step)));
        }
        let held = std::fs::File::open("/dev/null").unwrap();
        let now = process_facts().unwrap();

        assert!(now.cpu > before.cpu && now.cpu - before.cpu < Duration::from_secs(1), "{before:?} {now:?}");
        assert!(now.open_descriptors >= 4 && now.open_descriptors <= now.most_descriptors.unwrap_or(u64::MAX));
        assert!(now.threads >= 1 && now.resident > 1 << 20 && now.virtual_memory > now.resident, "{now:?}");
        assert!(now.age > Duration::ZERO && now.age < Duration::from_secs(600), "{now:?}");
        drop(held);
    }
}
