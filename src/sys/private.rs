//! What this process holds in memory is nobody else's to read.

/// From now on the kernel writes no core of this process and lets none but root look into its memory, its environment
/// and its descriptors: other processes of the same user may not trace it. A program that it starts is not bound by this.
pub fn keep_memory_private() {
    // Of this process itself, with a valid value: there is nothing that could refuse it.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// The same for what it starts: no core of a program that prints a secret. An operator's limit for other programs would
/// not be theirs any more, so this is for those who start no others. Nothing that is started can raise it again, but root.
pub fn leave_no_cores() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    // Lowering a limit is never refused.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}
