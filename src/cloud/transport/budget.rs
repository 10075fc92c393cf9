//! How much JSON all answers to a question may hold. It takes up to a hundred times its length in memory: an object
//! has room for several pairs from the first on.

/// What has been used up.
#[derive(Default)]
pub(in crate::cloud) struct Budget {
    values: usize,
}

impl Budget {
    /// Counts before anything is made of it, and a few too many: those signs stand in texts as well.
    ///
    /// # Errors
    /// It is too much, and how much would not be.
    pub(in crate::cloud) fn take(&mut self, json: &[u8]) -> Result<(), String> {
        self.values += json.iter().filter(|byte| b"[{,".contains(byte)).count();
        if self.values > VALUES_MAX { Err(format!("more than {VALUES_MAX} values")) } else { Ok(()) }
    }
}

/// Several of each entry that a list may have.
const VALUES_MAX: usize = 100_000;
