//! What the operator ordered for single endpoints: to leave one out, or to take one first. Orders expire by
//! themselves. They go by name, so that they outlive a change of the settings, and not a restart.

use crate::{clock::Moment, settings::Name};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// An order that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// No new session goes there.
    Disabled,
    /// New sessions go there first, where a listener's policy allows it at all.
    Preferred,
}

/// The orders of one cluster.
#[derive(Debug, Default)]
pub(crate) struct ByHand(Mutex<BTreeMap<Name, (Order, Moment)>>);

impl ByHand {
    /// Orders until `until`, in place of an earlier order; `None` takes it back.
    pub(crate) fn set(&self, endpoint: &Name, order: Option<Order>, until: Moment) {
        match order {
            Some(order) => self.lock().insert(endpoint.clone(), (order, until)),
            None => self.lock().remove(endpoint),
        };
    }

    /// The order that stands for an endpoint, and until when.
    pub(crate) fn of(&self, endpoint: &Name, now: Moment) -> Option<(Order, Moment)> {
        self.lock().get(endpoint).copied().filter(|(_, until)| now < *until)
    }

    /// Forgets the orders that have run out, and gives them.
    pub(crate) fn expire(&self, now: Moment) -> Vec<(Name, Order)> {
        let ended = self.lock().extract_if(.., |_, (_, until)| now >= *until).collect::<Vec<_>>();
        ended.into_iter().map(|(name, (order, _))| (name, order)).collect()
    }

    /// When the next order runs out.
    pub(crate) fn next_end(&self) -> Option<Moment> {
        self.lock().values().map(|(_, until)| *until).min()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Name, (Order, Moment)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Order {
    /// As `/status`, metrics and logs call it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Preferred => "preferred",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_order_stands_until_it_ends_or_is_taken_back() {
        let (hand, name, start) = (ByHand::default(), Name::new("a").unwrap(), Moment::default());
        let later = |seconds| start.after(Duration::from_secs(seconds));

        hand.set(&name, Some(Order::Disabled), later(10));
        assert_eq!(hand.of(&name, later(9)), Some((Order::Disabled, later(10))));
        assert_eq!(hand.of(&name, later(10)), None);
        hand.set(&name, Some(Order::Preferred), later(20));
        assert_eq!(
            (hand.of(&name, later(10)), hand.next_end()),
            (Some((Order::Preferred, later(20))), Some(later(20)))
        );
        assert_eq!((hand.expire(later(19)), hand.expire(later(20))), (vec![], vec![(name.clone(), Order::Preferred)]));

        hand.set(&name, Some(Order::Disabled), later(30));
        hand.set(&name, None, later(30));
        assert_eq!((hand.of(&name, later(1)), hand.next_end()), (None, None));
    }
}
