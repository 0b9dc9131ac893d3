//! Whether the slots of a worker work: decided here, by what became of their jobs.
//!
//! Nothing in here waits, or asks a clock.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use haulage::Failure;

/// So many failures in a row look like the slot's fault, where the other devices have none.
const SUSPICIOUS: u32 = 3;

/// How long a slot is out of service at first, and at most.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// How many jobs are remembered that broke a slot, and how many that failed in one that is in doubt.
const REMEMBERED: usize = 1000;

/// For how long a job is put off whose slot is broken; and how many of its attempts may end so until
/// they count: the job itself may be what breaks slots.
const PUT_OFF: Duration = Duration::from_secs(1);
const MOST_BROKEN: u32 = 10;

/// What becomes of a job whose slot is broken: its attempt does not count, unless that goes on.
pub fn put_back(why: impl Into<String>, attempt: u32) -> Failure {
    if attempt > MOST_BROKEN { Failure::retry(why) } else { Failure::snooze(PUT_OFF).because(why) }
}

/// What is to be done with a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    GoOn,
    /// What runs its jobs is replaced.
    Replace,
    /// It takes no more jobs until it has shown that it works.
    Quarantine,
}

/// What the end of a job says of its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It works.
    Succeeded,
    /// The attempt failed, and may be tried again.
    Failed,
    /// The same, and the handler has said when: nothing of the slot, unless the error names the device.
    Deferred,
    /// It does not work, as whatever ran the job has said itself.
    Broken,
    /// Nothing.
    Silent,
}

/// What becomes of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It ends as it did.
    Keep,
    /// The attempt has failed, and counts, though it was said that the slot is broken.
    Count,
    /// It goes back, and the attempt does not count: see [`put_back`].
    PutBack,
}

/// The end of one job of a call.
#[derive(Clone, Copy, Debug)]
pub struct JobEnd<'a> {
    /// The job's id.
    pub job: &'a str,
    /// What it says of the slot.
    pub sign: Sign,
    /// Why it failed, in which the device may be named; empty where it did not fail.
    pub words: &'a str,
}

/// What the end of a call means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// For the slot.
    pub verdict: Verdict,
    /// Why, where it is at fault.
    pub reason: String,
    /// For the jobs, in their order.
    pub dispositions: Vec<Disposition>,
}

#[derive(Debug, Default)]
struct Slot {
    device: Option<String>,
    /// Whether a job has ever succeeded there.
    worked: bool,
    // Since the last success: how often it broke, failed, ran out of memory, was out of service.
    broke: u32,
    failed: u32,
    out_of_memory: u32,
    quarantined: u32,
    is_out: bool,
}

/// The last jobs of which something is to be known, and in which slot that was.
#[derive(Debug, Default)]
struct Remembered {
    slots: HashMap<String, usize>,
    order: VecDeque<String>,
}

impl Remembered {
    fn insert(&mut self, job: &str, slot: usize) {
        if self.slots.contains_key(job) {
            return;
        }
        self.slots.insert(job.to_owned(), slot);
        self.order.push_back(job.to_owned());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.slots.remove(&oldest);
        }
    }
}

/// The slots of one worker.
#[derive(Debug)]
pub struct Health {
    slots: Vec<Slot>,
    /// Jobs that broke a slot.
    breakers: Remembered,
    /// Jobs that failed in a slot that was in doubt, and so are tried elsewhere.
    second_tries: Remembered,
}

impl Health {
    /// For slots with these devices; `None` where slots do not differ.
    pub fn new(devices: impl IntoIterator<Item = Option<String>>) -> Self {
        let slots = devices.into_iter().map(|device| Slot { device, ..Slot::default() }).collect();
        Self { slots, breakers: Remembered::default(), second_tries: Remembered::default() }
    }

    /// A call has ended in this slot: what that means for the slot, and for the jobs.
    pub fn judge(&mut self, slot: usize, jobs: &[JobEnd<'_>]) -> Judgement {
        let has_device = self.slots.get(slot).is_some_and(|slot| slot.device.is_some());
        let blames = |end: &JobEnd<'_>| match end.sign {
            Sign::Broken => true,
            Sign::Failed | Sign::Deferred => has_device && names_device(end.words),
            Sign::Succeeded | Sign::Silent => false,
        };
        let has_success = jobs.iter().any(|end| end.sign == Sign::Succeeded);
        let mut blaming: Vec<bool> = jobs.iter().map(blames).collect();
        let mut verdict = Verdict::GoOn;
        let mut is_in_doubt = false;
        if blaming.contains(&true) {
            let ids = jobs.iter().zip(&blaming).filter(|(_, blames)| **blames).map(|(end, _)| end.job);
            verdict = self.blamed(slot, &ids.collect::<Vec<_>>(), jobs.len());
        } else if has_success {
            self.succeeded(slot);
        } else if let Some(first) = jobs.iter().find(|end| end.sign == Sign::Failed) {
            is_in_doubt = self.is_in_doubt(slot);
            verdict = self.failed(slot, first.words);
            if verdict != Verdict::GoOn {
                blaming = jobs.iter().map(|end| end.sign == Sign::Failed).collect();
            }
        }
        let reason = jobs.iter().zip(&blaming).find(|(_, blames)| **blames).map(|(end, _)| end.words);
        let reason = reason.unwrap_or_default().to_owned();
        let disposition = |(end, blames): (&JobEnd<'_>, &bool)| match blames {
            true if self.is_breaker(end.job, slot) => Disposition::Count,
            true => Disposition::PutBack,
            false if is_in_doubt && end.sign == Sign::Failed => self.second_try(end.job, slot),
            false => Disposition::Keep,
        };
        let dispositions = jobs.iter().zip(&blaming).map(disposition).collect();
        Judgement { verdict, reason, dispositions }
    }

    /// These of so many jobs say that the slot is broken.
    fn blamed(&mut self, slot: usize, ids: &[&str], jobs: usize) -> Verdict {
        if ids.iter().any(|id| self.is_breaker(id, slot)) {
            // A job that breaks one slot after the other is at fault, and they are not.
            return Verdict::Replace;
        }
        if jobs == 1 || ids.len() < jobs {
            // In a batch that broke as a whole, nobody knows which it was.
            for id in ids {
                self.breakers.insert(id, slot);
            }
        }
        self.broke(slot)
    }

    fn succeeded(&mut self, slot: usize) {
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = Slot { device: slot.device.take(), worked: true, ..Slot::default() };
        }
    }

    fn failed(&mut self, slot: usize, words: &str) -> Verdict {
        let memory = is_out_of_memory(words);
        let Some(one) = self.slots.get_mut(slot).filter(|slot| slot.device.is_some()) else {
            return Verdict::GoOn;
        };
        one.out_of_memory = if memory { one.out_of_memory + 1 } else { 0 };
        if one.out_of_memory > 1 {
            return self.broke(slot);
        }
        one.failed += 1;
        // One that is let try again has to show that it works.
        let enough = one.failed >= if one.quarantined > 0 { 1 } else { SUSPICIOUS };
        if enough && self.is_alone(slot) {
            return self.out(slot);
        }
        // It is as the others are.
        self.slots[slot].quarantined = 0;
        Verdict::GoOn
    }

    /// Whether the next failure may well be the slot's fault: it has not worked yet, or failed the last
    /// time as well, and the other devices do not fail.
    fn is_in_doubt(&self, slot: usize) -> bool {
        let is_new = |slot: &Slot| slot.device.is_some() && (!slot.worked || slot.failed > 0);
        self.slots.get(slot).is_some_and(is_new) && self.is_alone(slot)
    }

    /// A job has failed in a slot that is in doubt: it is tried elsewhere before an attempt counts. It
    /// may come to the same device again, which soon is out of service.
    fn second_try(&mut self, job: &str, slot: usize) -> Disposition {
        let device = |slot: usize| self.slots.get(slot).and_then(|slot| slot.device.as_deref());
        if self.second_tries.slots.get(job).is_some_and(|other| device(*other) != device(slot)) {
            return Disposition::Keep;
        }
        self.second_tries.insert(job, slot);
        Disposition::PutBack
    }

    /// Whether the other devices have no such failures, or few of them have.
    fn is_alone(&self, slot: usize) -> bool {
        let device = &self.slots[slot].device;
        let others = || self.slots.iter().filter(|other| other.device != *device && !other.is_out);
        let failing = others().filter(|other| other.failed > 0).count();
        let working = others().filter(|other| other.worked && other.failed == 0).count();
        // Where none has ended a job yet, a trial will show: jobs may take hours.
        others().next().is_some() && (failing == 0 || working > failing)
    }

    /// The slot says of itself that it does not work, or what runs its jobs does not start.
    pub fn broke(&mut self, slot: usize) -> Verdict {
        let Some(one) = self.slots.get_mut(slot) else { return Verdict::GoOn };
        one.broke += 1;
        if one.is_out {
            // A call that had begun before: it is known already.
            Verdict::GoOn
        } else if one.broke == 1 && one.quarantined == 0 {
            Verdict::Replace
        } else {
            self.out(slot)
        }
    }

    /// Whether this job broke another slot.
    fn is_breaker(&self, job: &str, slot: usize) -> bool {
        self.breakers.slots.get(job).is_some_and(|other| *other != slot)
    }

    /// How long to leave a slot that is out of service alone.
    pub fn wait(&self, slot: usize) -> Duration {
        let times = self.slots.get(slot).map_or(0, |slot| slot.quarantined.saturating_sub(1));
        FIRST.saturating_mul(2_u32.saturating_pow(times)).min(LONGEST)
    }

    /// A slot is let try again: its first job decides.
    pub fn back(&mut self, slot: usize) {
        if let Some(slot) = self.slots.get_mut(slot) {
            (slot.is_out, slot.broke, slot.failed, slot.out_of_memory) = (false, 0, 0, 0);
        }
    }

    /// A slot that is out of service was looked at, and does not work.
    pub fn still_out(&mut self, slot: usize) {
        if slot < self.slots.len() {
            self.out(slot);
        }
    }

    /// Whether a slot is out of service.
    pub fn is_out(&self, slot: usize) -> bool {
        self.slots.get(slot).is_some_and(|slot| slot.is_out)
    }

    /// Whether no slot is in service.
    pub fn all_out(&self) -> bool {
        self.slots.iter().all(|slot| slot.is_out)
    }

    fn out(&mut self, slot: usize) -> Verdict {
        let slot = &mut self.slots[slot];
        slot.is_out = true;
        slot.quarantined = slot.quarantined.saturating_add(1);
        Verdict::Quarantine
    }
}

/// Whether an error says that the device does not work. That its memory is used up is no such error.
fn names_device(words: &str) -> bool {
    const ERRORS: [&str; 2] = ["CUDA error", "HIP error"];
    /// What a library answers, too, where it is not asked for what it can.
    const STATUSES: [(&str, &[&str]); 2] = [
        ("CUBLAS_STATUS_", &["NOT_SUPPORTED", "INVALID_VALUE", "ALLOC_FAILED"]),
        ("CUDNN_STATUS_", &["NOT_SUPPORTED", "BAD_PARAM"]),
    ];
    let named = |name: &str, harmless: &[&str]| {
        words.match_indices(name).any(|(at, name)| {
            let rest = words[at + name.len()..].trim_start_matches([':', ' ']);
            !harmless.iter().any(|harmless| rest.starts_with(harmless))
        })
    };
    let stands_alone = |(at, word): (usize, &str)| {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        !words[..at].ends_with(is_part) && !words[at + word.len()..].starts_with(is_part)
    };
    ERRORS.iter().any(|error| named(error, &["out of memory"]))
        || STATUSES.iter().any(|(status, harmless)| named(status, harmless))
        || words.contains("device-side assert")
        || words.match_indices("Xid").any(stands_alone)
}

/// Whether an error says that the device's memory is used up: by a job that wants too much, or, where
/// that goes on, by something else that holds it.
pub fn is_out_of_memory(words: &str) -> bool {
    /// How far apart the device and its want may be named, in bytes.
    const NEAR: usize = 80;
    let words = words.to_ascii_lowercase();
    if words.contains("outofmemoryerror") || words.contains("cublas_status_alloc_failed") {
        return true;
    }
    words.match_indices("out of memory").any(|(at, _)| {
        let before = &words.as_bytes()[at.saturating_sub(NEAR + "device".len())..at];
        let before = String::from_utf8_lossy(before);
        ["cuda", "hip", "gpu", "device"].iter().any(|device| before.contains(device))
    })
}

#[cfg(test)]
mod tests;
