//! What sessions give back: reset, then handed to a client that waits for it, or put on its shelf.

use super::{
    Pool,
    reset::{self, Used},
    upkeep::say_goodbye,
};
use crate::{jitter, metrics::labels::ResetResult, upstream::Upstream, wire::StartupParameters};

/// An upstream that is being reset to come back to its shelf. Once dropped it is not waited for any more.
struct Coming<'a> {
    pool: &'a Pool,
    parameters: &'a StartupParameters,
}

impl Pool {
    /// Takes back what a session has used and left at an idle point, to be reset and used again; what
    /// cannot be is closed. Takes at most about five seconds. Dropping the future closes the upstream.
    pub(crate) async fn take_back(&self, parameters: StartupParameters, used: Used) {
        let Some(_coming) = self.expect(&parameters, &used.upstream) else {
            // A reset would be in vain, or too many are under way.
            return say_goodbye(used.upstream).await;
        };
        let done = reset::reset(used).await;
        self.metrics.resets.at(done.as_ref().map_or_else(|result| *result, |_| ResetResult::Ok)).inc();
        if let Ok(upstream) = done
            && let Some(upstream) = self.restock(&parameters, upstream)
        {
            say_goodbye(upstream).await;
        }
    }

    fn expect<'a>(&'a self, parameters: &'a StartupParameters, upstream: &Upstream) -> Option<Coming<'a>> {
        let judge = self.judge();
        let expires_at = Some(upstream.login.birth.at.after(self.warm_age));
        let mut stock = self.lock();
        if stock.is_closed || self.objection(&judge, upstream, expires_at).is_some() {
            return None;
        }
        stock.shelves.expect(parameters).then(|| Coming { pool: self, parameters })
    }

    /// One is as good as new. Gives it back when it is of no use to anybody.
    fn restock(&self, parameters: &StartupParameters, upstream: Upstream) -> Option<Upstream> {
        // The age counts from its login, or it would live for ever.
        let expires_at = upstream.login.birth.at.after(jitter::around(self.warm_age));
        let judge = self.judge();
        let mut stock = self.lock();
        if stock.is_closed || self.objection(&judge, &upstream, Some(expires_at)).is_some() {
            return Some(upstream);
        }
        let mut stocked = self.stocked(upstream, expires_at, None, true);
        if stocked.has_said_more() {
            return Some(stocked.upstream);
        }
        let Err(stocked) = stock.shelves.hand_on(parameters, stocked, judge.now) else { return None };
        self.put(&mut stock, parameters, stocked);
        drop(stock);
        self.work.notify_one();
        None
    }
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        self.pool.lock().shelves.unexpect(self.parameters);
    }
}
