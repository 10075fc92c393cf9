//! An answer, read within bounds.

use reqwest::{
    Response,
    header::{DATE, HeaderMap, RETRY_AFTER},
};
use std::time::{Duration, SystemTime};

/// What came.
pub(super) struct Answer {
    pub(super) status: u16,
    /// What the server asks to wait.
    pub(super) wait: Option<Duration>,
    pub(super) body: Result<Vec<u8>, BodyFault>,
}

/// Why there is no whole body.
#[derive(Debug)]
pub(super) enum BodyFault {
    TooLong,
    Lost(reqwest::Error),
}

impl Answer {
    pub(super) async fn read(response: Response) -> Self {
        let (status, wait) = (response.status().as_u16(), retry_after(response.headers()));
        Self { status, wait, body: body(response).await }
    }
}

async fn body(mut response: Response) -> Result<Vec<u8>, BodyFault> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(BodyFault::Lost)? {
        if body.len() + chunk.len() > BYTES_MAX {
            return Err(BodyFault::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// In seconds or as a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse::<u32>() {
        Ok(seconds) => Some(Duration::from_secs(seconds.into())),
        Err(_) => Some(http_date(text)?.duration_since(SystemTime::now()).unwrap_or_default()),
    }
}

/// When the server says that it is.
pub(super) fn date(headers: &HeaderMap) -> Option<SystemTime> {
    http_date(headers.get(DATE)?.to_str().ok()?)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, the one form that is still written.
fn http_date(text: &str) -> Option<SystemTime> {
    let words: Vec<_> = text.split_ascii_whitespace().collect();
    let &[_, day, month, year, time, "GMT"] = words.as_slice() else { return None };
    let month = 1 + MONTHS.iter().position(|known| *known == month)?;
    humantime::parse_rfc3339(&format!("{year}-{month:02}-{day:0>2}T{time}Z")).ok()
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// Far more than any cluster's networks, users or databases need.
pub(super) const BYTES_MAX: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn headers(name: reqwest::header::HeaderName, value: &'static str) -> HeaderMap {
        [(name, HeaderValue::from_static(value))].into_iter().collect()
    }

    #[test]
    fn a_date_is_read_and_nonsense_is_none() {
        let then = humantime::parse_rfc3339("1994-11-06T08:49:37Z").unwrap();

        assert_eq!(date(&headers(DATE, "Sun, 06 Nov 1994 08:49:37 GMT")), Some(then));
        for nonsense in ["", "now", "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 99 Nov 1994 08:49:37 GMT", "a b c d e GMT"] {
            assert_eq!(date(&headers(DATE, nonsense)), None, "{nonsense}");
        }
    }

    #[test]
    fn a_wait_is_told_in_seconds_or_as_a_date() {
        assert_eq!(retry_after(&headers(RETRY_AFTER, "7")), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(&headers(RETRY_AFTER, "Sun, 06 Nov 1994 08:49:37 GMT")), Some(Duration::ZERO));
        assert!(retry_after(&headers(RETRY_AFTER, "Fri, 31 Dec 9999 23:59:59 GMT")).unwrap() > Duration::from_secs(9));
        assert_eq!(retry_after(&headers(RETRY_AFTER, "-1")), None);
        assert_eq!(retry_after(&headers(RETRY_AFTER, "99999999999999999999")), None);
    }
}
