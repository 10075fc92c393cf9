//! The key by which a client may cancel what its session runs.

use std::fmt;

/// A process ID (4 bytes) and a secret (4 to 256 bytes), as BackendKeyData and CancelRequest carry
/// them. CockroachDB's are eight opaque bytes. Whoever knows it can cancel, so it prints as `***`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CancelKey(Box<[u8]>);

impl CancelKey {
    /// Takes process ID and secret as one run of bytes, if their number is one that the protocol allows.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (Self::BYTES_MIN..=Self::BYTES_MAX).contains(&bytes.len()).then(|| Self(bytes.into()))
    }

    /// A key that shows this one's process ID, which drivers compare with `pg_backend_pid()`, and hides
    /// its secret behind `secret`.
    pub fn with_secret(&self, secret: &[u8]) -> Option<Self> {
        let process_id = self.0.get(..Self::PROCESS_ID_BYTES)?;
        Self::new(&[process_id, secret].concat())
    }

    /// Process ID and secret, for a message.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    const PROCESS_ID_BYTES: usize = 4;
    const BYTES_MIN: usize = Self::PROCESS_ID_BYTES + 4;
    const BYTES_MAX: usize = Self::PROCESS_ID_BYTES + 256;
}

impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_id_shows_and_the_secret_does_not() {
        let upstream = CancelKey::new(&[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();

        let ours = upstream.with_secret(&[9; 32]).unwrap();

        assert_eq!(ours.bytes()[..4], [1, 2, 3, 4]);
        assert_eq!(ours.bytes()[4..], [9; 32]);
        assert_eq!(format!("{ours:?}"), "***");
    }

    #[test]
    fn keys_of_other_sizes_are_none() {
        assert_eq!(CancelKey::new(&[0; 7]), None);
        assert_eq!(CancelKey::new(&[0; 261]), None);
        assert!(CancelKey::new(&[0; 260]).is_some());
    }
}
