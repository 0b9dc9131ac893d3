use super::*;

use Verdict::{GoOn, Quarantine, Replace};

fn gpus(count: usize, slots_each: usize) -> Health {
    Health::new((0..count * slots_each).map(|slot| Some((slot % count).to_string())))
}

/// The end of one job, which no other slot has had.
fn end(health: &mut Health, slot: usize, sign: Sign, words: &str) -> Verdict {
    let job = format!("{slot} alone");
    health.judge(slot, &[JobEnd { job: &job, sign, words }]).verdict
}

fn succeeded(health: &mut Health, slot: usize) {
    assert_eq!(end(health, slot, Sign::Succeeded, ""), GoOn);
}

fn failed(health: &mut Health, slot: usize, words: &str) -> Verdict {
    end(health, slot, Sign::Failed, words)
}

/// What becomes of a job that says that the slot is broken.
fn breaks(health: &mut Health, slot: usize, job: &str) -> (Verdict, Disposition) {
    let judgement = health.judge(slot, &[JobEnd { job, sign: Sign::Broken, words: "broken" }]);
    assert_eq!(judgement.reason, "broken");
    (judgement.verdict, judgement.dispositions[0])
}

#[test]
fn a_slot_that_breaks_twice_is_out_until_it_has_worked() {
    let mut health = gpus(2, 1);
    succeeded(&mut health, 1);
    assert_eq!(health.broke(0), Replace);
    succeeded(&mut health, 0);
    assert_eq!(health.broke(0), Replace);
    assert_eq!(health.broke(0), Quarantine);
    assert!(health.is_out(0) && !health.all_out());
    assert_eq!(health.wait(0), Duration::from_secs(1));
    health.back(0);
    // On trial: one failure that the others do not have is enough.
    assert_eq!(failed(&mut health, 0, "ValueError: no"), Quarantine);
    assert_eq!(health.wait(0), Duration::from_secs(2));
    health.back(0);
    // Nor is what runs its jobs replaced first.
    assert_eq!(health.broke(0), Quarantine);
    health.back(0);
    succeeded(&mut health, 0);
    assert_eq!(health.broke(0), Replace);
}

#[test]
fn a_call_that_began_before_the_quarantine_makes_it_no_longer() {
    let mut health = Health::new([None]);
    assert_eq!([health.broke(0), health.broke(0), health.broke(0)], [Replace, Quarantine, GoOn]);
    assert_eq!(health.wait(0), Duration::from_secs(1));
}

#[test]
fn an_error_names_the_device_or_not() {
    for (words, is_named) in [
        ("RuntimeError: CUDA error: an illegal memory access was encountered", true),
        ("torch.AcceleratorError: HIP error: invalid device function", true),
        ("RuntimeError: CUBLAS_STATUS_EXECUTION_FAILED when calling", true),
        ("CUBLAS_STATUS_NOT_SUPPORTED, so CUBLAS_STATUS_INTERNAL_ERROR", true),
        ("NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus", true),
        ("/opt/cuda/src/Indexing.cu:1290: block: [0,0,0] device-side assert triggered", true),
        ("RuntimeError: CUDNN_STATUS_NOT_SUPPORTED", false),
        ("KeyError: 'MyXid' and Xids", false),
        ("ValueError: no", false),
        // These are said of the memory, a first time without blame.
        ("RuntimeError: CUDA error: out of memory", false),
        ("RuntimeError: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", false),
    ] {
        assert_eq!(names_device(words), is_named, "{words}");
    }
}

#[test]
fn an_error_says_that_the_memory_of_the_device_is_used_up_or_not() {
    for (words, is_said) in [
        ("torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB", true),
        ("RuntimeError: CUDA error: out of memory", true),
        ("RuntimeError: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", true),
        ("jaxlib: GPU 0 is out of memory", true),
        ("sh: fork: out of memory", false),
        ("MemoryError", false),
    ] {
        assert_eq!(is_out_of_memory(words), is_said, "{words}");
    }
}

#[test]
fn slots_without_a_device_do_not_differ() {
    let mut health = Health::new([None, None]);
    succeeded(&mut health, 1);
    for words in ["OSError: no", "RuntimeError: CUDA error: device lost", "CUDA out of memory"] {
        for _ in 0..9 {
            assert_eq!(failed(&mut health, 0, words), GoOn);
        }
    }
    assert_eq!(health.broke(0), Replace);
}

#[test]
fn only_a_second_time_in_a_row_is_a_want_of_memory_the_fault_of_the_device() {
    let memory = "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB";
    let mut health = gpus(2, 1);
    assert_eq!(failed(&mut health, 0, memory), GoOn);
    succeeded(&mut health, 0);
    assert_eq!(failed(&mut health, 0, memory), GoOn);
    assert_eq!(failed(&mut health, 0, memory), Replace);
}

#[test]
fn devices_that_fail_alone_are_out_at_the_third_job() {
    for have_worked in [true, false] {
        let mut health = gpus(8, 2);
        for slot in (0..16).filter(|slot| have_worked && slot % 8 < 6) {
            succeeded(&mut health, slot);
        }
        // Two of the eight, each with two slots, one after the other as they come.
        for devices in [[6, 14], [7, 15]].iter().take(if have_worked { 2 } else { 1 }) {
            let verdicts = [0, 1, 0, 1, 0, 1].map(|at| failed(&mut health, devices[at], "OSError: no"));
            assert_eq!(verdicts, [GoOn, GoOn, GoOn, GoOn, Quarantine, Quarantine]);
        }
    }
}

#[test]
fn devices_that_fail_at_the_same_time_do_not_excuse_each_other() {
    let mut health = gpus(8, 1);
    for slot in 0..6 {
        succeeded(&mut health, slot);
    }
    let verdicts = [6, 7, 6, 7, 6, 7].map(|slot| failed(&mut health, slot, "OSError: no"));
    assert_eq!(verdicts, [GoOn, GoOn, GoOn, GoOn, Quarantine, Quarantine]);
}

#[test]
fn a_trial_that_fails_as_others_do_is_over() {
    let mut health = gpus(2, 1);
    assert_eq!([(); 3].map(|()| failed(&mut health, 0, "OSError: no")), [GoOn, GoOn, Quarantine]);
    health.back(0);
    failed(&mut health, 1, "OSError: no");
    assert_eq!(failed(&mut health, 0, "OSError: no"), GoOn);
    succeeded(&mut health, 1);
    assert_eq!(failed(&mut health, 0, "OSError: no"), GoOn, "it is the second of three");
}

/// What becomes of a job that fails.
fn fails(health: &mut Health, slot: usize, job: &str) -> (Verdict, Disposition) {
    let judgement = health.judge(slot, &[JobEnd { job, sign: Sign::Failed, words: "OSError: no" }]);
    (judgement.verdict, judgement.dispositions[0])
}

#[test]
fn a_device_that_has_never_worked_costs_no_job_an_attempt() {
    for have_worked in [true, false] {
        let mut health = gpus(2, 1);
        if have_worked {
            succeeded(&mut health, 1);
        }
        assert_eq!(fails(&mut health, 0, "a"), (GoOn, Disposition::PutBack));
        assert_eq!(fails(&mut health, 0, "a"), (GoOn, Disposition::PutBack), "it was not tried elsewhere");
        assert_eq!(fails(&mut health, 0, "b"), (Quarantine, Disposition::PutBack));
        assert_eq!(fails(&mut health, 1, "a"), (GoOn, Disposition::Keep), "no other device is in service");
    }
}

#[test]
fn one_failure_of_a_device_that_works_is_the_jobs_and_the_next_in_a_row_is_tried_elsewhere() {
    let mut health = gpus(4, 1);
    (0..4).for_each(|slot| succeeded(&mut health, slot));
    assert_eq!(fails(&mut health, 0, "a"), (GoOn, Disposition::Keep));
    assert_eq!(fails(&mut health, 0, "b"), (GoOn, Disposition::PutBack));
    succeeded(&mut health, 0);
    assert_eq!(fails(&mut health, 1, "c"), (GoOn, Disposition::Keep));
    assert_eq!(fails(&mut health, 1, "b"), (GoOn, Disposition::Keep), "this is elsewhere");
}

#[test]
fn a_failure_whose_handler_says_when_to_try_again_is_left_alone_unless_it_names_the_device() {
    let mut health = gpus(2, 1);
    let judged = |health: &mut Health, job, words| {
        let judgement = health.judge(0, &[JobEnd { job, sign: Sign::Deferred, words }]);
        (judgement.verdict, judgement.dispositions[0])
    };
    for job in ["a", "b", "c", "d"] {
        assert_eq!(judged(&mut health, job, "rate limited"), (GoOn, Disposition::Keep));
    }
    assert_eq!(judged(&mut health, "e", "CUDA error: device lost"), (Replace, Disposition::PutBack));
}

#[test]
fn a_device_is_the_same_in_each_of_its_slots() {
    let mut health = gpus(2, 2);
    succeeded(&mut health, 1);
    let twice = [0, 2].map(|slot| fails(&mut health, slot, "a").1);
    assert_eq!(twice, [Disposition::PutBack; 2]);
    assert_eq!(fails(&mut health, 3, "a").1, Disposition::Keep);
}

#[test]
fn what_fails_everywhere_counts_from_the_second_device_on() {
    let mut health = gpus(2, 1);
    assert_eq!(fails(&mut health, 0, "a").1, Disposition::PutBack);
    for job in ["b", "c", "d", "e"] {
        assert_eq!([1, 0].map(|slot| fails(&mut health, slot, job)), [(GoOn, Disposition::Keep); 2]);
    }
}

#[test]
fn what_fails_everywhere_is_no_slots_fault() {
    let mut health = gpus(4, 1);
    // It is the first, and the fastest: nobody knows yet, and a trial shows it.
    assert_eq!([(); 3].map(|()| failed(&mut health, 0, "KeyError: 'x'")), [GoOn, GoOn, Quarantine]);
    assert_eq!(failed(&mut health, 1, "KeyError: 'x'"), GoOn);
    health.back(0);
    for slot in (0..4).cycle().take(80) {
        assert_eq!(failed(&mut health, slot, "KeyError: 'x'"), GoOn);
    }
    assert!(!health.all_out());
}

#[test]
fn jobs_that_fail_now_and_then_cost_few_slots_a_second() {
    let mut draw = fastrand::Rng::with_seed(1);
    let mut health = gpus(8, 1);
    let mut out = 0;
    for _ in 0..20_000 {
        let slot = draw.usize(..8);
        if draw.f64() >= 0.05 {
            succeeded(&mut health, slot);
        } else if failed(&mut health, slot, "ValueError: this input") == Quarantine {
            out += 1;
            health.back(slot);
        }
    }
    // Three in a row at one slot by chance: once in 8,000 outcomes.
    assert!(out < 10, "{out}");
}

#[test]
fn a_single_device_is_never_in_doubt() {
    let mut health = gpus(1, 2);
    for _ in 0..9 {
        assert_eq!(failed(&mut health, 0, "OSError: no"), GoOn);
    }
}

#[test]
fn a_job_that_breaks_a_second_slot_is_at_fault_and_old_ones_are_forgotten() {
    let mut health = gpus(2, 1);
    assert_eq!(breaks(&mut health, 0, "a"), (Replace, Disposition::PutBack));
    succeeded(&mut health, 0);
    assert_eq!(breaks(&mut health, 0, "a"), (Replace, Disposition::PutBack), "the slot may be at fault");
    assert_eq!(breaks(&mut health, 1, "a"), (Replace, Disposition::Count));
    assert_eq!(breaks(&mut health, 1, "a"), (Replace, Disposition::Count), "the slot is not blamed");
    for other in 0..REMEMBERED {
        breaks(&mut health, 0, &other.to_string());
    }
    succeeded(&mut health, 1);
    assert_eq!(breaks(&mut health, 1, "a"), (Replace, Disposition::PutBack));
}

#[test]
fn a_batch_is_judged_job_by_job() {
    let one = |job, sign| JobEnd { job, sign, words: if sign == Sign::Failed { "OSError: no" } else { "" } };
    let mut health = gpus(2, 1);
    for _ in 0..9 {
        let mixed = [one("a", Sign::Failed), one("b", Sign::Succeeded)];
        assert_eq!(health.judge(0, &mixed).verdict, GoOn, "the device works");
    }
    let all_failed = [one("a", Sign::Failed), one("b", Sign::Silent), one("c", Sign::Failed)];
    assert_eq!(health.judge(0, &all_failed).dispositions, [Disposition::Keep; 3]);
    health.judge(0, &all_failed);
    let third = health.judge(0, &all_failed);
    assert_eq!((third.verdict, third.reason.as_str()), (Quarantine, "OSError: no"));
    use Disposition::{Keep, PutBack};
    assert_eq!(third.dispositions, [PutBack, Keep, PutBack]);
    // Which of them it was, nobody knows: none is held to be at fault elsewhere.
    let broken = [one("a", Sign::Broken), one("c", Sign::Broken)];
    assert_eq!(health.judge(1, &broken).dispositions, [PutBack; 2]);
    health.back(0);
    assert_eq!(health.judge(0, &broken).dispositions, [PutBack; 2]);
}

#[test]
fn an_attempt_counts_after_ten_of_them() {
    let kind = |attempt| format!("{:?}", put_back("broken", attempt));
    assert_eq!(kind(10), "Failure(Snooze(1s): broken)");
    assert_eq!(kind(11), "Failure(Retry(None): broken)");
}

#[test]
fn waits_have_a_longest() {
    let mut health = gpus(1, 1);
    for _ in 0..2000 {
        health.still_out(0);
    }
    assert!(health.all_out());
    assert_eq!(health.wait(0), Duration::from_secs(300));
    health.back(0);
    assert!(!health.all_out());
}
