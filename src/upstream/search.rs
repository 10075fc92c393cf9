//! A session's way through the endpoints: one is tried, the next one when it fails, and beside it when it
//! leaves SSLRequest unanswered for too long. The first that answers is the one that goes on, so that a
//! session never logs in twice at once.

use super::{
    Claim, Cluster, Upstream, Way,
    claim::{Attempt, Deadlines, generation},
    connect::Progress,
    error::{ClaimError, EndpointError, LoginError, Loss},
    rejections::Kind,
    select,
};
use crate::credentials::Lease;
use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
};
use tokio::time::{Instant, sleep_until};

/// One session's search.
pub(super) struct Search<'a> {
    cluster: &'a Cluster,
    claim: &'a Claim<'a>,
    lease: Option<Lease>,
    /// The secret was read again already.
    is_secret_fresh: bool,
    kind: Kind,
    deadline: Instant,
    untried: VecDeque<Arc<Way>>,
    trying: Vec<Trying<'a>>,
    failures: Vec<(Arc<Way>, LoginError)>,
}

/// An endpoint that is being tried.
struct Trying<'a> {
    way: Arc<Way>,
    progress: Arc<Progress>,
    began: Instant,
    /// When the next one is dialled beside it; `None` once that has been.
    beside_at: Option<Instant>,
    done: Pin<Box<dyn Future<Output = Result<Upstream, LoginError>> + Send + 'a>>,
}

impl Trying<'_> {
    /// It ends without an answer, since another one is gone on with; counts that.
    fn given_up(&self) -> LoginError {
        let error = LoginError::Endpoint(EndpointError::Overtaken(self.began.elapsed()));
        self.way.metrics.attempts.at(error.result()).inc();
        error
    }
}

enum Event {
    /// The attempt at this place has ended.
    Done(usize, Box<Result<Upstream, LoginError>>),
    /// The attempt at this place was the first to be answered.
    Answered(usize),
    /// No attempt has been answered in time.
    Late,
}

impl<'a> Search<'a> {
    /// A search that begins now.
    pub(super) fn new(cluster: &'a Cluster, claim: &'a Claim<'a>, lease: Option<Lease>, kind: Kind) -> Self {
        Self {
            cluster,
            claim,
            lease,
            is_secret_fresh: false,
            kind,
            deadline: Instant::now() + claim.setup.limits.connect_limit,
            untried: cluster.order_of(claim.setup, claim.choice).into(),
            trying: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Goes on until an endpoint serves or none is left. Dropping the future ends every attempt.
    pub(super) async fn run(mut self) -> Result<Upstream, ClaimError> {
        self.try_next(None);
        while !self.trying.is_empty() {
            match self.next_event().await {
                Event::Done(place, result) => {
                    let done = self.trying.swap_remove(place);
                    match *result {
                        Ok(upstream) => return Ok(upstream),
                        Err(error) => self.failed(done.way, error).await?,
                    }
                }
                Event::Answered(place) => self.go_on_with(place),
                Event::Late => {
                    self.trying.iter_mut().for_each(|trying| trying.beside_at = None);
                    self.try_next(None);
                }
            }
        }
        Err(self.verdict())
    }

    async fn next_event(&mut self) -> Event {
        let beside_at = self.trying.iter().filter_map(|trying| trying.beside_at).min();
        let beside_at = beside_at.filter(|_| !self.untried.is_empty());
        let trying = &mut self.trying;
        let first = poll_fn(|cx| {
            let has_several = trying.len() > 1;
            for (place, attempt) in trying.iter_mut().enumerate() {
                if let Poll::Ready(result) = attempt.done.as_mut().poll(cx) {
                    return Poll::Ready(Event::Done(place, Box::new(result)));
                }
                if attempt.progress.answered().is_some() && (has_several || attempt.beside_at.is_some()) {
                    return Poll::Ready(Event::Answered(place));
                }
            }
            Poll::Pending
        });
        tokio::select! {
            biased;
            event = first => event,
            () = sleep_until(beside_at.unwrap_or(self.deadline)), if beside_at.is_some() => Event::Late,
        }
    }

    /// The attempt at `place` was answered: those that were not by now make way, and may be tried again last.
    fn go_on_with(&mut self, place: usize) {
        let mut chosen = self.trying.swap_remove(place);
        chosen.beside_at = None;
        for overtaken in std::mem::take(&mut self.trying) {
            // One that was dialled a moment ago is not to blame for not being first.
            if overtaken.beside_at.is_none() {
                let error = overtaken.given_up();
                self.cluster.note_attempt(self.claim.setup, &overtaken.way, None, Err(&error));
                self.untried.push_back(overtaken.way);
            } else {
                self.untried.push_front(overtaken.way);
            }
        }
        self.trying.push(chosen);
    }

    /// Takes in a failure, and tries the next endpoint unless one is being tried that is not late yet.
    async fn failed(&mut self, way: Arc<Way>, error: LoginError) -> Result<(), ClaimError> {
        let loss = error.loss();
        if loss == Loss::Nothing {
            return self.refused(way, error).await;
        }
        tracing::debug!(
            cluster.name = %self.cluster.name(), endpoint.name = %way.name(), cause = error.in_short(),
            "endpoint failed"
        );
        if loss == Loss::Full && !self.claim.choice.policy.overflow {
            let region = select::region_of(&way.endpoint);
            self.untried.retain(|other| select::region_of(&other.endpoint) == region);
            for other in self.trying.extract_if(.., |other| select::region_of(&other.way.endpoint) != region) {
                other.given_up();
            }
        }
        self.failures.push((Arc::clone(&way), error));
        if self.trying.iter().all(|trying| trying.beside_at.is_none() && trying.progress.answered().is_none()) {
            // A node or a gateway that is lost leaves the region's other paths; a lost endpoint says
            // nothing of them, and the order holds.
            self.try_next(Some(&*way).filter(|_| !matches!(loss, Loss::Endpoint | Loss::Ours)));
        }
        Ok(())
    }

    /// The server was reached and let nobody in. The secret may have been rotated a moment ago: it is looked
    /// at once more, then the server's word stands.
    async fn refused(&mut self, way: Arc<Way>, error: LoginError) -> Result<(), ClaimError> {
        let asked_at = Instant::now();
        let account = self.claim.setup.account_of(self.claim.parameters);
        if error.rejects_the_secret() && !self.is_secret_fresh && account.reread(&mut self.lease).await {
            self.is_secret_fresh = true;
            // Reading a secret is not connecting.
            self.deadline += asked_at.elapsed();
            self.attempt(way);
            return Ok(());
        }
        let endpoint = Arc::clone(&way.endpoint);
        if let LoginError::Server(server) = &error
            && error.rejects_the_secret()
            && self.claim.of_client.is_none()
        {
            let generation = generation(self.lease.as_ref());
            self.claim.setup.rejections.note(self.kind, generation, &endpoint, server, Instant::now());
        }
        Err(ClaimError::Login { endpoint, error })
    }

    /// Tries the next endpoint: of the region of `near` if one is left there, else the first of the order.
    fn try_next(&mut self, near: Option<&Way>) {
        if Instant::now() >= self.deadline {
            let skipped = self.untried.drain(..).map(|way| (way, LoginError::Endpoint(EndpointError::NotTried)));
            return self.failures.extend(skipped);
        }
        let is_near = |way: &Arc<Way>| {
            near.is_some_and(|near| select::region_of(&near.endpoint) == select::region_of(&way.endpoint))
        };
        let place = self.untried.iter().position(is_near).unwrap_or(0);
        if let Some(way) = self.untried.remove(place) {
            self.attempt(way);
        }
    }

    fn attempt(&mut self, way: Arc<Way>) {
        let progress = Arc::new(Progress::default());
        let began = Instant::now();
        let deadlines = Deadlines { has_another: !self.untried.is_empty(), deadline: self.deadline };
        let beside_at = Some(began + way.health().patience());
        let (cluster, Claim { setup, parameters, .. }) = (self.cluster, self.claim);
        let (tried, lease, watched) = (Arc::clone(&way), self.lease.clone(), Arc::clone(&progress));
        let done = Box::pin(async move {
            let attempt = Attempt { setup, way: &tried, parameters, lease: lease.as_ref(), deadlines };
            cluster.persist(&attempt, &watched).await
        });
        self.trying.push(Trying { way, progress, began, beside_at, done });
    }

    /// Servers that turned the client away speak for themselves; else each endpoint's cause is told.
    fn verdict(mut self) -> ClaimError {
        let is_servers = |(_, error): &(Arc<Way>, LoginError)| matches!(error, LoginError::Server(_));
        // A full gateway's word stands, whatever failed on the way there.
        let is_full = |(_, error): &(Arc<Way>, LoginError)| error.loss() == Loss::Full;
        let servers_word = match self.failures.iter().position(is_full) {
            Some(place) => Some(place),
            None => self.failures.iter().all(is_servers).then_some(0),
        };
        if let Some(place) = servers_word.filter(|place| *place < self.failures.len()) {
            let (way, error) = self.failures.swap_remove(place);
            return ClaimError::Login { endpoint: Arc::clone(&way.endpoint), error };
        }
        let failures = self.failures.into_iter();
        ClaimError::NoEndpoint(failures.map(|(way, error)| (Arc::clone(&way.endpoint), error)).collect())
    }
}
