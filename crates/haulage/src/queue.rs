//! Named queues: the lines in which the jobs of one store wait.
//!
//! A job is in one queue, and a worker serves one or several: in an order of
//! preference, or by weights. Which queue the next job comes from is decided
//! here, for every backend.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{Error, Result};

/// The name of a queue: 1 to 80 of the characters `A-Z a-z 0-9 _ . -`.
///
/// A queue is there as long as it has jobs or is paused; nobody has to make it.
/// Cloning is cheap.
///
/// ```
/// use haulage::QueueName;
///
/// let queue: QueueName = "interactive".parse()?;
/// assert_eq!(queue.as_str(), "interactive");
/// assert_eq!(QueueName::default().as_str(), "default");
/// assert!(QueueName::new("two words").is_err());
/// # Ok::<(), haulage::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct QueueName(
    /// `None` is the default queue, and nothing else is.
    Option<Arc<str>>,
);

impl QueueName {
    /// The queue of a job that names none.
    pub const DEFAULT: &str = "default";
    /// The most characters.
    pub const MAX_LENGTH: usize = 80;

    /// A queue of this name.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`].
    pub fn new(name: impl AsRef<str>) -> Result<Self> {
        let name = name.as_ref();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if name.is_empty() || name.len() > Self::MAX_LENGTH || !name.chars().all(allowed) {
            let max = Self::MAX_LENGTH;
            return Err(Error::Invalid(format!(
                "{name:?} is not the name of a queue: it is 1 to {max} of the characters A-Z a-z 0-9 _ . -"
            )));
        }
        Ok(Self::stored((name != Self::DEFAULT).then_some(name)))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or(Self::DEFAULT)
    }

    /// Whether it is the queue of a job that names none.
    pub const fn is_default(&self) -> bool {
        self.0.is_none()
    }

    /// The name as it is stored: nothing for the default queue.
    #[cfg(feature = "sqlite")]
    pub(crate) fn to_stored(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// A name that was stored so.
    pub(crate) fn stored(name: Option<&str>) -> Self {
        Self(name.map(Arc::from))
    }
}

impl PartialEq for QueueName {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for QueueName {}

impl PartialOrd for QueueName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for QueueName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for QueueName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QueueName({self})")
    }
}

impl FromStr for QueueName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::new(name)
    }
}

impl Serialize for QueueName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for QueueName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Which queues a worker serves, and which of them comes first.
///
/// None of them waits for good, however many jobs the others have; and where
/// only one has jobs, all that is claimed comes from that.
///
/// ```
/// use haulage::Queues;
///
/// let preferred: Queues = "interactive,bulk".parse()?;
/// let weighted: Queues = "interactive=6,bulk=1".parse()?;
/// assert_eq!((preferred.to_string(), weighted.to_string()), ("interactive,bulk".into(), "bulk=1,interactive=6".into()));
/// # Ok::<(), haulage::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Queues {
    /// The first that has a job, in this order; but each [`Queues::SHARE`]th job
    /// comes from one of the others, each in turn, if that has one.
    InOrder(Vec<QueueName>),
    /// So many jobs of each in turn. What a queue that has none leaves goes to the
    /// others, by their weights.
    ByWeight(BTreeMap<QueueName, u32>),
}

impl Default for Queues {
    /// The default queue alone.
    fn default() -> Self {
        Self::InOrder(vec![QueueName::default()])
    }
}

impl From<QueueName> for Queues {
    fn from(queue: QueueName) -> Self {
        Self::InOrder(vec![queue])
    }
}

impl Queues {
    /// Of queues in order, one job in so many comes from a lower one.
    pub const SHARE: u64 = 10;
    /// The most queues that one worker serves.
    pub const MOST: usize = 16;
    /// The largest weight.
    pub const MAX_WEIGHT: u32 = 100;

    /// Reads `NAME` of each queue, in order, or `NAME=WEIGHT` of each.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`], also as [`Queues::validate`].
    pub fn parse(entries: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self> {
        let (mut order, mut weights) = (Vec::new(), BTreeMap::new());
        for entry in entries {
            let entry = entry.as_ref().trim();
            let Some((name, weight)) = entry.split_once('=') else {
                order.push(QueueName::new(entry)?);
                continue;
            };
            let weight = weight.parse().map_err(|_| bad_weight(name, weight))?;
            if weights.insert(QueueName::new(name)?, weight).is_some() {
                return Err(twice(name));
            }
        }
        let queues = match (order.is_empty(), weights.is_empty()) {
            (_, true) => Self::InOrder(order),
            (true, false) => Self::ByWeight(weights),
            (false, false) => {
                return Err(Error::Invalid(
                    "some queues have a weight and some have none; give each one, or none".into(),
                ));
            }
        };
        queues.validate()?;
        Ok(queues)
    }

    /// Checks that there are queues, each of them once and with a weight in range.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`].
    pub fn validate(&self) -> Result<()> {
        let count = self.names().count();
        if count == 0 || count > Self::MOST {
            let most = Self::MOST;
            return Err(Error::Invalid(format!("a worker serves 1 to {most} queues, and not {count}")));
        }
        match self {
            Self::InOrder(names) => {
                let again = names.iter().enumerate().find(|(n, name)| names[..*n].contains(name));
                again.map_or(Ok(()), |(_, name)| Err(twice(name.as_str())))
            }
            Self::ByWeight(weights) => {
                let bad = weights.iter().find(|(_, weight)| !(1..=Self::MAX_WEIGHT).contains(*weight));
                bad.map_or(Ok(()), |(name, weight)| Err(bad_weight(name.as_str(), weight)))
            }
        }
    }

    /// Each of them, once.
    pub fn names(&self) -> impl Iterator<Item = &QueueName> {
        let (order, weights) = match self {
            Self::InOrder(names) => (Some(names.iter()), None),
            Self::ByWeight(weights) => (None, Some(weights.keys())),
        };
        order.into_iter().flatten().chain(weights.into_iter().flatten())
    }

    /// The queue, where it is only one.
    pub fn only(&self) -> Option<&QueueName> {
        let mut names = self.names();
        names.next().filter(|_| names.next().is_none())
    }

    /// In which order the queues are looked at for a job, until one has a job.
    /// `turn` is how many a worker has had before it.
    pub fn order(&self, turn: u64) -> Vec<&QueueName> {
        match self {
            Self::InOrder(names) => {
                let mut order: Vec<_> = names.iter().collect();
                if let [_, lower @ ..] = &mut order[..]
                    && !lower.is_empty()
                    && turn % Self::SHARE == Self::SHARE - 1
                {
                    let whose = (turn / Self::SHARE) % lower.len() as u64;
                    order[..=1 + usize::try_from(whose).unwrap_or(0)].rotate_right(1);
                }
                order
            }
            Self::ByWeight(weights) => {
                let weights = weights.iter().map(|(name, weight)| (name, u64::from(*weight)));
                by_weight(weights.collect(), turn)
            }
        }
    }

    /// Takes up to `max` jobs from the queues, for the turns from `turn` on. `next`
    /// gives the next job of a queue; one that has none is not asked again. For
    /// backends.
    ///
    /// # Errors
    ///
    /// As `next`.
    pub fn draw<T, E>(
        &self,
        turn: u64,
        max: usize,
        mut next: impl FnMut(&QueueName) -> Result<Option<T>, E>,
    ) -> Result<Vec<T>, E> {
        let (mut drawn, mut empty) = (Vec::new(), Vec::new());
        'jobs: while drawn.len() < max {
            let order = match self.only() {
                Some(only) => vec![only],
                None => self.order(turn.wrapping_add(drawn.len() as u64)),
            };
            for name in order {
                if empty.contains(&name) {
                    continue;
                }
                if let Some(job) = next(name)? {
                    drawn.push(job);
                    continue 'jobs;
                }
                empty.push(name);
            }
            break;
        }
        Ok(drawn)
    }
}

/// The order for one turn: whose turn it is comes first. What that leaves is
/// divided among the others as if it were all there is, and so on.
fn by_weight(mut left: Vec<(&QueueName, u64)>, mut turn: u64) -> Vec<&QueueName> {
    let mut order = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let total = left.iter().map(|(_, weight)| (*weight).max(1)).sum::<u64>();
        let (whose, before) = whose_turn(&left, turn % total);
        turn = turn / total * left[whose].1.max(1) + before;
        order.push(left.remove(whose).0);
    }
    order
}

/// Whose this turn of a round is, and how many of the round's turns before it were
/// theirs. In a round each has as many turns as its weight, spread out evenly.
fn whose_turn(weights: &[(&QueueName, u64)], turn: u64) -> (usize, u64) {
    let mut had = vec![0; weights.len()];
    let mut whose = 0;
    for now in 0..=turn {
        // The middle of the next part of each: (had + 1/2) / weight.
        let middle = |n: usize| (2 * had[n] + 1, weights[n].1.max(1));
        let earlier = |a: usize, b: usize| {
            let ((a, of_a), (b, of_b)) = (middle(a), middle(b));
            (a * of_b).cmp(&(b * of_a))
        };
        whose = (0..weights.len()).min_by(|a, b| earlier(*a, *b)).unwrap_or(0);
        if now < turn {
            had[whose] += 1;
        }
    }
    (whose, had[whose])
}

fn twice(name: &str) -> Error {
    Error::Invalid(format!("the queue {name:?} is named twice"))
}

fn bad_weight(name: &str, weight: impl fmt::Display) -> Error {
    let max = Queues::MAX_WEIGHT;
    Error::Invalid(format!("the weight of the queue {name:?} is {weight}; it is a number from 1 to {max}"))
}

impl FromStr for Queues {
    type Err = Error;

    /// Reads them with a comma in between: `interactive,bulk`, or `interactive=6,bulk=1`.
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text.split(','))
    }
}

impl fmt::Display for Queues {
    /// As it is read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, name) in self.names().enumerate() {
            write!(f, "{}{name}", if n > 0 { "," } else { "" })?;
            if let Self::ByWeight(weights) = self {
                write!(f, "={}", weights[name])?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
