//! Lists that come in pages, with a bound on how many, how long and how much.

use super::{
    CloudError,
    lenient::Object,
    transport::{Budget, Call, Transport},
};

/// The entries of a list of this name on all pages; each must be readable. Every page is shown to `look`, too, and kept
/// no longer than that.
pub(super) async fn entries<T>(
    transport: &Transport,
    call: Call<'_>,
    key: &str,
    read: impl Fn(Object<'_>) -> Option<T>,
    look: impl FnMut(Object<'_>),
) -> Result<Vec<T>, CloudError> {
    transport.in_time(false, in_pages(transport, call, key, read, look)).await
}

async fn in_pages<T>(
    transport: &Transport,
    mut call: Call<'_>,
    key: &str,
    read: impl Fn(Object<'_>) -> Option<T>,
    mut look: impl FnMut(Object<'_>),
) -> Result<Vec<T>, CloudError> {
    let (mut entries, mut seen, mut bytes, mut budget) = (Vec::new(), Vec::new(), 0, Budget::default());
    loop {
        let body = transport.part(&call).await?;
        bytes += body.len();
        if bytes > BYTES_MAX {
            return Err(CloudError::TooLong { server: transport.server().clone(), limit: BYTES_MAX, is_change: false });
        }
        let page = transport.parse(&body, &call, &mut budget)?;
        let Some(object) = Object::of(&page) else {
            return Err(transport.malformed(&call, "no object where one was due"));
        };
        let list = object.list(key);
        if entries.len() + list.len() > ENTRIES_MAX {
            return Err(transport.malformed(&call, &format!("a list of more than {ENTRIES_MAX} entries")));
        }
        let unreadable = || transport.malformed(&call, &format!("an entry of \"{key}\" without what names it"));
        for entry in list {
            entries.push(Object::of(entry).and_then(&read).ok_or_else(unreadable)?);
        }
        look(object);
        let next = object.object("pagination").and_then(|pagination| pagination.text("next_page"));
        let Some(next) = next else { return Ok(entries) };
        if seen.contains(&next) || seen.len() + 1 == PAGES_MAX {
            return Err(transport.malformed(&call, "a list that does not end"));
        }
        call.query.retain(|(key, _)| *key != PAGE);
        call.query.push((PAGE, next.clone()));
        seen.push(next);
    }
}

const PAGE: &str = "pagination.page";
/// Each holds up to a few hundred entries.
const PAGES_MAX: usize = 50;
/// Of all pages.
const ENTRIES_MAX: usize = 10_000;
/// Of all pages.
const BYTES_MAX: usize = 16 << 20;
