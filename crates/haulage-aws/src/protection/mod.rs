//! Protection of an ECS task against scale-in and deployments while it works.
//!
//! The agent is called on the edges only: before the first job is started, once
//! nothing is left to do, and in between to renew what would run out.

mod agent;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use haulage::{Error, Result};
use tokio::{task::JoinHandle, time::Instant};
use tracing::{debug, info, warn};

use self::agent::Agent;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::agent::understood;

/// What to do where a task cannot be protected against scale-in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScaleInProtection {
    /// Protection is not asked for.
    Off,
    /// The failure is logged, and work goes on.
    #[default]
    Prefer,
    /// No job is started.
    Require,
}

impl ScaleInProtection {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Prefer => "prefer",
            Self::Require => "require",
        }
    }
}

impl fmt::Display for ScaleInProtection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ScaleInProtection {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let all = [Self::Off, Self::Prefer, Self::Require];
        all.into_iter().find(|mode| mode.as_str() == text).ok_or_else(|| {
            Error::Config(format!("ecs_protection is `{text}`, and can be off, prefer or require"))
        })
    }
}

/// How long one call of the agent may take, all in all. The agent itself gives
/// ECS 4 s (amazon-ecs-agent, `ecsCallTimeout`), so that its own answer comes first.
const CALL: Duration = Duration::from_secs(5);
/// How long an agent that failed is left alone, where work goes on without it.
const LEFT_ALONE: Duration = Duration::from_secs(30);
/// The first pause after a renewal that failed; each further one is twice as long.
const RENEW_AGAIN: Duration = Duration::from_secs(1);
/// The longest of these pauses.
const RENEW_AGAIN_AT_MOST: Duration = Duration::from_secs(60);

/// Protects this task.
#[derive(Debug)]
pub(crate) struct Protection {
    mode: ScaleInProtection,
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    mode: ScaleInProtection,
    agent: Agent,
    expires: Duration,
    /// Held during each call, so that the agent sees them in order.
    turn: tokio::sync::Mutex<()>,
    /// Never held across a wait: a hold of what is protected looks here only.
    state: Mutex<ProtectionState>,
}

#[derive(Debug, Default)]
struct ProtectionState {
    /// Whether a hold came after the last release.
    wanted: bool,
    /// While held: when the protection runs out if nobody renews it.
    until: Option<Instant>,
    /// While held.
    renewal: Option<Renewal>,
    /// How many calls for protection have been answered, or given up.
    answers: u64,
    /// Set by a call for protection that failed, until one works.
    outage: Option<Outage>,
}

#[derive(Debug)]
struct Outage {
    error: String,
    /// When to try again, where work goes on without protection.
    not_before: Instant,
}

/// Ends with the protection.
#[derive(Debug)]
struct Renewal(JoinHandle<()>);

impl Drop for Renewal {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Protection {
    /// `agent` is `$ECS_AGENT_URI`; `expires` is between 1 minute and 48 hours.
    pub(crate) fn new(mode: ScaleInProtection, agent: Option<String>, expires: Duration) -> Result<Self> {
        Self::with_limit(mode, agent, expires, CALL)
    }

    fn with_limit(
        mode: ScaleInProtection,
        agent: Option<String>,
        expires: Duration,
        limit: Duration,
    ) -> Result<Self> {
        let agent = match mode {
            ScaleInProtection::Off => None,
            _ => agent.map(|uri| Agent::new(&uri, limit)).transpose()?,
        };
        if agent.is_none() && mode == ScaleInProtection::Prefer {
            debug!("ECS_AGENT_URI is not set: not a task of an ECS service, nothing to protect");
        }
        let shared = agent.map(|agent| {
            let (turn, state) = (tokio::sync::Mutex::default(), Mutex::default());
            Arc::new(Shared { mode, agent, expires, turn, state })
        });
        Ok(Self { mode, shared })
    }

    /// Protects the task, unless it is protected already.
    ///
    /// # Errors
    ///
    /// With [`ScaleInProtection::Require`], where that fails: then nothing may
    /// be started.
    pub(crate) async fn hold(&self) -> Result<()> {
        let required = self.mode == ScaleInProtection::Require;
        let Some(shared) = self.shared.clone() else {
            return if required {
                Err(refused(
                    "ECS_AGENT_URI is not set: not running as an ECS service task; run it as one, \
                             or set ecs_protection=off",
                ))
            } else {
                Ok(())
            };
        };
        let answers = {
            let mut state = shared.state();
            state.wanted = true;
            let left_alone = state.outage.as_ref().is_some_and(|outage| Instant::now() < outage.not_before);
            if state.lasts(shared.expires) || (!required && left_alone) {
                return Ok(());
            }
            state.answers
        };
        // A task of its own: a caller that goes away leaves no call half done.
        let outcome = tokio::spawn(async move { shared.ensure(answers).await }).await;
        let outcome = outcome.unwrap_or_else(|e| Err(format!("the call of the ECS agent was cut off: {e}")));
        match outcome {
            Err(error) if required => {
                Err(refused(&format!("{error}; with ecs_protection=prefer, work would go on without")))
            }
            _ => Ok(()),
        }
    }

    /// Lets the task be stopped again. If that fails, the protection runs out.
    /// A hold that is under way, or comes before the call, has its way.
    pub(crate) async fn release(&self) {
        let Some(shared) = self.shared.clone() else { return };
        {
            let mut state = shared.state();
            state.wanted = false;
            if state.until.is_none() {
                return;
            }
        }
        if let Err(error) = tokio::spawn(async move { shared.release().await }).await {
            warn!(%error, "the task may stay protected against scale-in until that runs out");
        }
    }
}

fn refused(why: &str) -> Error {
    let message = format!(
        "no job is started: ecs_protection is `require`, and the task cannot be protected against scale-in: {why}"
    );
    Error::Unavailable { message, source: None }
}

impl ProtectionState {
    /// Whether the protection is held and not near its end. It is renewed at
    /// half of its time; with a quarter left, that has not worked.
    fn lasts(&self, expires: Duration) -> bool {
        self.until.is_some_and(|until| until.saturating_duration_since(Instant::now()) > expires / 4)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, ProtectionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the protection, or the answer of whoever asked meanwhile: since
    /// there were this many `answers`.
    async fn ensure(self: Arc<Self>, answers: u64) -> std::result::Result<(), String> {
        let _turn = self.turn.lock().await;
        {
            let mut state = self.state();
            state.wanted = true;
            if state.lasts(self.expires) {
                return Ok(());
            }
            if let Some(outage) = state.outage.as_ref().filter(|_| state.answers > answers) {
                return Err(outage.error.clone());
            }
        }
        let until = self.protect().await?;
        let mut state = self.state();
        // It may be there already, if it was late; and not run, if its runtime is gone.
        if state.renewal.as_ref().is_none_or(|renewal| renewal.0.is_finished()) {
            let renewal = renew(Arc::downgrade(&self), until - self.expires / 2);
            state.renewal = Some(Renewal(tokio::spawn(renewal)));
        }
        Ok(())
    }

    /// Asks for protection, with the turn held; the answer is when it runs out.
    async fn protect(&self) -> std::result::Result<Instant, String> {
        // The agent counts from some later moment.
        let until = Instant::now() + self.expires;
        let answer = self.agent.protect(true, self.expires).await;
        let mut state = self.state();
        state.answers += 1;
        match answer {
            Ok(()) => {
                if state.outage.take().is_some() {
                    info!("the task is protected against scale-in again");
                }
                state.until = Some(until);
                Ok(until)
            }
            Err(error) => {
                if state.outage.is_none() {
                    if state.until.is_some() {
                        warn!(%error, "the protection against scale-in cannot be renewed; trying on");
                    } else if self.mode == ScaleInProtection::Prefer {
                        warn!(%error, "the task is not protected against scale-in; work goes on without");
                    }
                }
                let not_before = Instant::now() + LEFT_ALONE;
                state.outage = Some(Outage { error: error.clone(), not_before });
                Err(error)
            }
        }
    }

    async fn release(&self) {
        let _turn = self.turn.lock().await;
        {
            let mut state = self.state();
            // A hold that came while this waited relies on what is there.
            if state.wanted || state.until.take().is_none() {
                return;
            }
            state.renewal = None;
        }
        if let Err(error) = self.agent.protect(false, self.expires).await {
            warn!(%error, "the task stays protected against scale-in until that runs out");
        }
    }

    /// Renews the protection if it is time to; the answer is when to look again.
    async fn renew(&self, failures: &mut u32) -> Option<Instant> {
        let _turn = self.turn.lock().await;
        let half = self.expires / 2;
        let until = self.state().until?;
        // A hold near the end may have renewed it.
        if Instant::now() < until - half {
            *failures = 0;
            return Some(until - half);
        }
        Some(match self.protect().await {
            Ok(until) => {
                *failures = 0;
                until - half
            }
            Err(_) => {
                let pause = RENEW_AGAIN.saturating_mul(2_u32.saturating_pow(*failures));
                *failures = failures.saturating_add(1);
                Instant::now() + pause.min(RENEW_AGAIN_AT_MOST).min(half)
            }
        })
    }
}

/// Renews the protection for as long as it is held. The reference is weak, so
/// that a [`Protection`] that is dropped takes this with it.
async fn renew(shared: Weak<Shared>, mut next: Instant) {
    let mut failures = 0;
    loop {
        tokio::time::sleep_until(next).await;
        let Some(shared) = shared.upgrade() else { return };
        match shared.renew(&mut failures).await {
            Some(moment) => next = moment,
            None => return,
        }
    }
}
