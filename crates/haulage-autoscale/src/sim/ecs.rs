//! ECS: a service of tasks that work off a queue.
//!
//! Sources, in the Amazon ECS Developer Guide: "Amazon ECS services" (the
//! scheduler starts and stops tasks until as many run as are desired), "Protect
//! your Amazon ECS tasks from being terminated by scale-in events" (protected
//! tasks are passed over), "Amazon ECS clusters for Fargate" (Spot: a warning
//! of two minutes); AWS Fargate pricing: by the second, from the pull of the
//! image, for a minute at least.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use super::random::Random;
use crate::Service;

/// Seconds between the warning of a Spot task and its end.
const SPOT_WARNING: f64 = 120.0;
/// The shortest time that is billed for a task, in seconds.
const LEAST_BILLED: f64 = 60.0;

/// What a service is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TaskKind {
    pub(crate) slots: u32,
    pub(crate) startup: f64,
    /// Whether a task that works is protected from scale-in.
    pub(crate) protected: bool,
    /// How often a task is lost to Spot, each hour.
    pub(crate) spot_losses_per_hour: f64,
}

/// A job in the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) arrived: f64,
    /// When it can be taken.
    pub(crate) visible: f64,
    pub(crate) seconds: f64,
}

/// A job that ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) at: f64,
    pub(crate) seconds: f64,
    pub(crate) waited: f64,
}

#[derive(Clone, Debug)]
struct Slot {
    free_at: f64,
    job: Option<Waiting>,
}

#[derive(Clone, Debug)]
struct Task {
    started: f64,
    ready: f64,
    /// When Spot takes it, unless it has stopped by then.
    taken_at: f64,
    /// When it is gone, once Spot has given its warning.
    lost_at: Option<f64>,
    slots: Vec<Slot>,
}

impl Task {
    fn is_busy(&self) -> bool {
        self.slots.iter().any(|slot| slot.job.is_some())
    }
}

/// The service, and what it has done.
#[derive(Debug)]
pub(crate) struct Fleet {
    kind: TaskKind,
    random: Random,
    tasks: Vec<Task>,
    desired: u32,
    pub(crate) billed_seconds: f64,
    pub(crate) starts: u64,
}

impl Fleet {
    pub(crate) fn new(kind: TaskKind, desired: u32, random: Random) -> Self {
        // A service that is there already, not one that is created.
        let mut fleet = Self { kind, random, tasks: Vec::new(), desired, billed_seconds: 0.0, starts: 0 };
        fleet.tasks = (0..desired).map(|_| fleet.task(0.0, 0.0)).collect();
        fleet
    }

    /// The same number of a task has the same time with Spot, whatever the
    /// policy: so they are compared with the same luck.
    fn task(&mut self, started: f64, ready: f64) -> Task {
        let slot = Slot { free_at: ready, job: None };
        let taken_at = match self.kind.spot_losses_per_hour {
            0.0 => f64::INFINITY,
            losses => ready + self.random.exponential(losses / 3600.0),
        };
        Task { started, ready, taken_at, lost_at: None, slots: vec![slot; self.kind.slots as usize] }
    }

    pub(crate) fn scale(&mut self, desired: u32) {
        self.desired = desired;
    }

    pub(crate) fn counts(&self, now: f64) -> Service {
        let running = self.tasks.iter().filter(|task| task.ready <= now).count() as u32;
        let pending = self.tasks.len() as u32 - running;
        Service { running, pending, desired: self.desired, deploying: false }
    }

    pub(crate) fn busy_slots(&self) -> u64 {
        self.tasks.iter().flat_map(|task| &task.slots).filter(|slot| slot.job.is_some()).count() as u64
    }

    /// Up to the second `now`: ends jobs, begins others, starts and stops tasks.
    pub(crate) fn tick(&mut self, now: f64, queue: &mut VecDeque<Waiting>, done: &mut Vec<Done>) {
        self.work(now, queue, done);
        self.lose_spot(now, queue);
        self.schedule(now, queue);
    }

    /// Jobs in the order of the queue, to the slots in the order in which
    /// they become free.
    fn work(&mut self, now: f64, queue: &mut VecDeque<Waiting>, done: &mut Vec<Done>) {
        let mut free = BinaryHeap::new();
        for (t, task) in self.tasks.iter_mut().enumerate() {
            let takes = task.ready <= now && task.lost_at.is_none();
            for (s, slot) in task.slots.iter_mut().enumerate() {
                if slot.free_at <= now {
                    end(slot, done);
                    if takes {
                        free.push(Reverse((Moment(slot.free_at), t, s)));
                    }
                }
            }
        }
        while let (Some(job), Some(Reverse((_, t, s)))) = (queue.front().copied(), free.pop()) {
            queue.pop_front();
            let slot = &mut self.tasks[t].slots[s];
            slot.free_at = slot.free_at.max(job.visible) + job.seconds;
            slot.job = Some(job);
            if slot.free_at <= now {
                // A short job: the slot takes another within this second.
                end(slot, done);
                free.push(Reverse((Moment(slot.free_at), t, s)));
            }
        }
    }

    fn lose_spot(&mut self, now: f64, queue: &mut VecDeque<Waiting>) {
        for task in self.tasks.iter_mut().filter(|task| task.taken_at <= now && task.lost_at.is_none()) {
            // The worker takes no more jobs, and finishes what it can.
            task.lost_at = Some(now + SPOT_WARNING);
        }
        let lost = |task: &Task| task.lost_at.is_some_and(|at| at <= now || !task.is_busy());
        for index in (0..self.tasks.len()).rev().filter(|i| lost(&self.tasks[*i])).collect::<Vec<_>>() {
            self.stop(index, now, queue);
        }
    }

    fn schedule(&mut self, now: f64, queue: &mut VecDeque<Waiting>) {
        let lasting = self.tasks.iter().filter(|task| task.lost_at.is_none()).count();
        let desired = self.desired as usize;
        for _ in lasting..desired {
            let task = self.task(now, now + self.kind.startup);
            self.tasks.push(task);
            self.starts += 1;
        }
        for _ in desired..lasting {
            let Some(index) = self.next_to_stop(now) else { break };
            self.stop(index, now, queue);
        }
    }

    /// Tasks that start go first, then idle ones; who works goes last, if at all.
    fn next_to_stop(&self, now: f64) -> Option<usize> {
        let rank = |task: &Task| (task.ready <= now, task.is_busy());
        let stoppable = |task: &Task| task.lost_at.is_none() && !(self.kind.protected && task.is_busy());
        let candidates = self.tasks.iter().enumerate().rev().filter(|(_, task)| stoppable(task));
        candidates.min_by_key(|(_, task)| rank(task)).map(|(index, _)| index)
    }

    /// Its jobs go back to the queue, in their old places, and begin anew.
    fn stop(&mut self, index: usize, now: f64, queue: &mut VecDeque<Waiting>) {
        let task = self.tasks.remove(index);
        self.billed_seconds += (now - task.started).max(LEAST_BILLED);
        for job in task.slots.into_iter().filter_map(|slot| slot.job) {
            let place = queue.partition_point(|other| other.arrived <= job.arrived);
            queue.insert(place, Waiting { visible: now, ..job });
        }
    }

    /// The end of the simulation: what still runs is paid for up to here.
    /// Returns the jobs that are not done.
    pub(crate) fn close(&mut self, now: f64) -> Vec<Waiting> {
        let tasks = std::mem::take(&mut self.tasks);
        self.billed_seconds += tasks.iter().map(|task| (now - task.started).max(LEAST_BILLED)).sum::<f64>();
        tasks.into_iter().flat_map(|task| task.slots).filter_map(|slot| slot.job).collect()
    }
}

fn end(slot: &mut Slot, done: &mut Vec<Done>) {
    if let Some(job) = slot.job.take() {
        let waited = (slot.free_at - job.arrived - job.seconds).max(0.0);
        done.push(Done { at: slot.free_at, seconds: job.seconds, waited });
    }
}

/// A moment that can be put in order.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Moment(f64);

impl Eq for Moment {}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: TaskKind = TaskKind { slots: 1, startup: 60.0, protected: true, spot_losses_per_hour: 0.0 };

    struct World {
        fleet: Fleet,
        queue: VecDeque<Waiting>,
        done: Vec<Done>,
        now: u32,
    }

    impl World {
        fn new(kind: TaskKind, desired: u32, jobs: &[f64]) -> Self {
            let job = |&seconds: &f64| Waiting { arrived: 0.0, visible: 0.0, seconds };
            let fleet = Fleet::new(kind, desired, Random::new(1));
            Self { fleet, queue: jobs.iter().map(job).collect(), done: Vec::new(), now: 0 }
        }

        fn until(&mut self, end: u32) -> &mut Self {
            while self.now < end {
                self.now += 1;
                self.fleet.tick(f64::from(self.now), &mut self.queue, &mut self.done);
            }
            self
        }

        fn counts(&self) -> (u32, u32) {
            let service = self.fleet.counts(f64::from(self.now));
            (service.running, service.pending)
        }
    }

    #[test]
    fn a_task_works_once_it_has_started() {
        let mut world = World::new(PLAIN, 0, &[30.0]);
        world.fleet.scale(1);
        assert_eq!(world.until(30).counts(), (0, 1));
        world.until(100);
        assert_eq!(world.counts(), (1, 0));
        assert_eq!(world.done.len(), 1);
        // Started at second 1, ready at 61.
        assert_eq!((world.done[0].at, world.done[0].waited), (91.0, 61.0));
    }

    #[test]
    fn slots_work_side_by_side_and_short_jobs_do_not_wait_for_the_next_second() {
        let kind = TaskKind { slots: 2, ..PLAIN };
        let mut world = World::new(kind, 1, &[0.1; 40]);
        world.until(3);
        assert_eq!(world.done.len(), 40);
        let last = world.done.iter().map(|done| done.at).fold(0.0, f64::max);
        assert!((last - 2.0).abs() < 1e-6, "{last}");
    }

    #[test]
    fn scale_in_passes_over_who_works_and_takes_it_when_it_is_done() {
        let mut world = World::new(PLAIN, 2, &[100.0]);
        world.until(5).fleet.scale(0);
        assert_eq!(world.until(50).counts(), (1, 0));
        assert_eq!(world.until(110).counts(), (0, 0));
        assert_eq!(world.done.len(), 1);
        // One for the least that is billed, one until its job was done.
        assert_eq!(world.fleet.billed_seconds, 60.0 + 100.0);
    }

    #[test]
    fn without_protection_the_job_begins_anew() {
        let mut world = World::new(TaskKind { protected: false, ..PLAIN }, 1, &[100.0]);
        world.until(50).fleet.scale(0);
        assert_eq!(world.until(52).counts(), (0, 0));
        assert_eq!((world.queue.len(), world.done.len()), (1, 0));
        world.fleet.scale(1);
        world.until(300);
        assert!(world.done[0].waited >= 110.0, "{:?}", world.done);
    }

    #[test]
    fn tasks_that_are_to_go_count_again_when_they_are_wanted() {
        let mut world = World::new(PLAIN, 2, &[500.0, 500.0]);
        world.until(5).fleet.scale(0);
        world.until(10).fleet.scale(2);
        assert_eq!(world.until(20).counts(), (2, 0));
        assert_eq!(world.fleet.starts, 0);
    }

    #[test]
    fn a_lost_spot_task_is_replaced_and_its_job_comes_back() {
        let kind = TaskKind { spot_losses_per_hour: 3600.0, ..PLAIN };
        let mut world = World::new(kind, 1, &[400.0]);
        assert_eq!(world.until(30).counts(), (1, 1), "the other one starts within the warning");
        world.until(150);
        assert_eq!(world.done.len(), 0);
        assert!(world.fleet.starts >= 1);
    }
}
