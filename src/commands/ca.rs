//! `ca fetch`: a cluster's CA certificate, shown for people to compare and kept in a file. It must never put another
//! CA in the place of one that is trusted already unless it is told to.

use super::{
    CommandError, block_on, note,
    questions::Interrupt,
    say,
    whole_file::{self, Before, Instead, placed},
};
use crate::{
    cli::CaFetchFlags,
    cloud::Cloud,
    diagnostics::{Chain, printable},
    settings::Inputs,
    tls::{self, Authorities, Authority, Place},
};
use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Fetches it, and writes it unless the file holds it already.
///
/// # Errors
/// The server does not give it, it is none, or the file holds another CA.
pub fn ca_fetch(flags: &CaFetchFlags, inputs: &Inputs) -> Result<u8, CommandError> {
    let id = &flags.cluster_id;
    if !is_id(id) {
        return Err(CommandError::Said(2, NO_ID.to_owned()));
    }
    // As it was said, unless no shell has read it: so it is told.
    let said = flags.output.clone().unwrap_or_else(|| PathBuf::from(format!("{id}-ca.crt")));
    let file = if said.starts_with("~") || said.starts_with("$HOME") { placed(&said, inputs) } else { said };
    let fetched = block_on(async {
        let cloud = Cloud::from_env()?;
        Interrupt::new()?.or(Fetched::of(&cloud, id), "stopped; nothing was written").await
    })?;
    let kept = fetched.judged(&file, flags.force)?;
    if kept != Kept::Unchanged {
        whole_file::write(&file, fetched.text.as_bytes(), MODE, kept.instead())?;
    }
    let what = match kept {
        Kept::New => "written",
        Kept::Unchanged => "unchanged, it holds this CA already",
        Kept::Replaced => "replaced",
    };
    say(&format!("{}: {what}\n{}", printable(&file.display().to_string()), fetched.told()))?;
    fetched.note_doubts(&kept);
    Ok(0)
}

/// Any user may read it.
pub(super) const MODE: u32 = 0o644;

/// What came, and can be trusted as far as it can be seen.
pub(super) struct Fetched {
    pub(super) text: String,
    pub(super) authorities: Authorities,
    id: String,
    server: String,
}

/// What becomes of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// There was none.
    New,
    /// It trusts what came, and maybe more.
    Unchanged,
    /// It holds something else, which is to be replaced.
    Replaced,
}

impl Kept {
    pub(super) fn instead(&self) -> Instead {
        if *self == Self::New { Instead::OfNothing } else { Instead::OfOld }
    }
}

impl Fetched {
    /// Asks the server.
    pub(super) async fn of(cloud: &Cloud, id: &str) -> Result<Self, CommandError> {
        let text = cloud.ca(id).await?;
        let server = cloud.server().to_string();
        let place = Place::CaFetched(server.clone());
        let authorities = tls::authorities(text.as_bytes(), &place, SystemTime::now());
        let authorities = authorities.map_err(|error| {
            let hint = "nothing was written; does this network answer in the Cloud's place? Try another one";
            CommandError::Said(1, format!("{}; {hint}", Chain(&error)))
        })?;
        Ok(Self { text: authorities.pem.clone(), authorities, id: id.to_owned(), server })
    }

    /// Holds it against what the file has.
    ///
    /// # Errors
    /// It is something else, and nobody said to replace it.
    pub(super) fn judged(&self, file: &Path, force: bool) -> Result<Kept, CommandError> {
        let Before::Text(old) = whole_file::before(file)? else { return Ok(Kept::New) };
        if old == self.text.as_bytes() {
            return Ok(Kept::Unchanged);
        }
        let trusted = tls::certificates(&old, &Place::CaFile(file.to_owned()));
        let is_trusted = |one: &Authority| {
            trusted.as_ref().is_ok_and(|trusted| trusted.iter().any(|other| other.sha256 == one.sha256))
        };
        if self.authorities.certificates.iter().all(is_trusted) {
            return Ok(Kept::Unchanged);
        }
        if force {
            return Ok(Kept::Replaced);
        }
        let Self { id, server, .. } = self;
        let file = file.display();
        Err(CommandError::Said(
            2,
            match trusted {
                Err(error) => format!("{}; it was left as it is: --force replaces it", Chain(&error)),
                Ok(trusted) => format!(
                    "{file} holds another CA than {server} gives for cluster {id}, and was left as it is\n\
                     {}{}{DIFFERS}",
                    list("in the file:", &trusted),
                    list("fetched:", &self.authorities.certificates)
                ),
            },
        ))
    }

    /// What is to be compared.
    pub(super) fn told(&self) -> String {
        list(&format!("CA certificate of cluster {}:", self.id), &self.authorities.certificates)
    }

    /// Says what should be looked at although it works.
    pub(super) fn note_doubts(&self, kept: &Kept) {
        self.authorities.warnings.iter().for_each(|warning| note(warning));
        if *kept != Kept::Unchanged {
            note(FIRST_USE);
        }
    }
}

fn list(title: &str, certificates: &[Authority]) -> String {
    let lines = certificates.iter().map(|Authority { sha256, subject, validity }| {
        format!("  SHA-256 {sha256}\n          {}, {validity}\n", printable(subject))
    });
    format!("{title}\n{}", lines.collect::<String>())
}

/// Whether this has the shape of a cluster's ID: 8-4-4-4-12 hexadecimal digits.
fn is_id(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let is_hex = |part: &&str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && parts.iter().all(is_hex)
}

const NO_ID: &str = "--cluster-id is not the ID of a cluster, which looks like 01234567-89ab-cdef-0123-456789abcdef: it is \
                     in the address bar of the Cloud Console, behind /cluster/";
const DIFFERS: &str = "Either the cluster's CA was changed, or something on this network answers in the Cloud's place (a \
                       proxy that opens TLS connections does). Fetch it over another network and compare; what is the \
                       same there is the cluster's, and --force replaces the file";
const FIRST_USE: &str = "nothing but this network vouches for this CA so far: fetch it over another one (a phone's, a \
                         server's) too, and compare the SHA-256";

#[cfg(test)]
impl Fetched {
    /// One that was never fetched.
    pub(super) fn of_nobody() -> Self {
        let certificate =
            Authority { sha256: "ab".repeat(32), subject: "CN=CA".to_owned(), validity: "now".to_owned() };
        let authorities = Authorities { certificates: vec![certificate], pem: String::new(), warnings: Vec::new() };
        Self { text: String::new(), authorities, id: String::new(), server: String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid() {
        assert!(is_id("01234567-89ab-cdef-0123-456789abcdef") && is_id("01234567-89AB-CDEF-0123-456789ABCDEF"));
        for text in ["", "prod", "01234567-89ab-cdef-0123-456789abcde", "0123456789abcdef0123456789abcdef", "../../x"] {
            assert!(!is_id(text), "{text}");
        }
    }
}
