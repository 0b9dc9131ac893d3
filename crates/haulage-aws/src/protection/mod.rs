//! Protection of an ECS task against scale-in and deployments while it works.
//!
//! The agent is called on the edges only: before the first job is started, once
//! nothing is left to do, and in between to renew what would run out.

mod agent;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use haulage::{Error, Result};
use tokio::{sync::Mutex, task::JoinHandle, time::Instant};
use tracing::{debug, info, warn};

use self::agent::Agent;

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

/// How long one call of the agent may take, all in all.
const CALL: Duration = Duration::from_secs(5);
/// How long an agent that failed is left alone, where work goes on without it.
const LEFT_ALONE: Duration = Duration::from_secs(30);
/// The longest pause between two tries to renew.
const RENEW_AGAIN: Duration = Duration::from_secs(60);

/// Protects this task.
#[derive(Debug)]
pub(crate) struct Protection {
    mode: ScaleInProtection,
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    agent: Agent,
    expires: Duration,
    /// Held during a call, so that a hold and a release cannot cross.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// While the task is protected: the task of the runtime that renews it.
    renewal: Option<Renewal>,
    /// After a failure: when to try again.
    not_before: Option<Instant>,
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
    /// `agent` is `$ECS_AGENT_URI`.
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
        let shared = agent.map(|agent| Arc::new(Shared { agent, expires, state: Mutex::default() }));
        Ok(Self { mode, shared })
    }

    /// Protects the task, unless it is protected already.
    ///
    /// # Errors
    ///
    /// With [`ScaleInProtection::Require`], where that fails: then nothing may
    /// be started.
    pub(crate) async fn hold(&self) -> Result<()> {
        let Some(shared) = &self.shared else {
            return match self.mode {
                ScaleInProtection::Require => Err(Error::Unavailable {
                    message: "no job is started: ecs_protection is `require`, and ECS_AGENT_URI is not set, so this \
                              is not a task of an ECS service; run it as one, or set ecs_protection=off"
                        .into(),
                    source: None,
                }),
                _ => Ok(()),
            };
        };
        let mut state = shared.state.lock().await;
        if state.renewal.is_some() {
            return Ok(());
        }
        let required = self.mode == ScaleInProtection::Require;
        if !required && state.not_before.is_some_and(|moment| Instant::now() < moment) {
            return Ok(());
        }
        match shared.agent.protect(true, shared.expires).await {
            Ok(()) => {
                if state.not_before.take().is_some() {
                    info!("the task is protected against scale-in again");
                }
                state.renewal = Some(Renewal(tokio::spawn(renew(shared.clone()))));
                Ok(())
            }
            Err(error) if required => {
                let message = format!(
                    "no job is started: the task cannot be protected against scale-in: {error}; \
                     with ecs_protection=prefer, work would go on without"
                );
                Err(Error::Unavailable { message, source: None })
            }
            Err(error) => {
                if state.not_before.replace(Instant::now() + LEFT_ALONE).is_none() {
                    warn!(%error, "the task is not protected against scale-in; work goes on without");
                }
                Ok(())
            }
        }
    }

    /// Lets the task be stopped again. If that fails, the protection runs out.
    pub(crate) async fn release(&self) {
        let Some(shared) = &self.shared else { return };
        let mut state = shared.state.lock().await;
        if state.renewal.take().is_some()
            && let Err(error) = shared.agent.protect(false, shared.expires).await
        {
            warn!(%error, "the task stays protected against scale-in until that runs out");
        }
    }
}

/// Renews the protection at half of its time, for as long as it is wanted.
async fn renew(shared: Arc<Shared>) {
    let half = shared.expires / 2;
    let mut pause = half;
    let mut failing = false;
    loop {
        tokio::time::sleep(pause).await;
        match shared.agent.protect(true, shared.expires).await {
            Ok(()) => {
                if std::mem::take(&mut failing) {
                    info!("the protection against scale-in is renewed");
                }
                pause = half;
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(%error, "the protection against scale-in cannot be renewed; trying on");
                    pause = half / 16;
                }
                pause = (pause * 2).min(RENEW_AGAIN).min(half);
            }
        }
    }
}
