//! What becomes of a delivery after a try.

use std::time::Duration;

use haulage::{
    Timestamp,
    backend::{ClaimedDelivery, Delivery, DeliveryOutcome},
};
use hyper::StatusCode;

/// How long a delivery is tried: a day, from its first try or the first since it was redriven.
pub(super) const TRIED_FOR: Duration = Delivery::LATEST;
/// The longest wait after the first try; it doubles with each.
const BASE: Duration = Duration::from_secs(5);
/// The longest wait after any.
const CAP: Duration = Duration::from_secs(3600);

/// Of a longer reason, the beginning is kept: it may be in the words of the receiver.
const WHY_BYTES: usize = 1024;

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The receiver answered, and may have said for how long to leave it alone.
    Status(StatusCode, Option<Duration>),
    /// It did not, for this reason.
    None(String),
}

/// Decides; `chance` is a random number from 0 to 1.
pub(super) fn outcome(
    claimed: &ClaimedDelivery,
    answer: Answer,
    now: Timestamp,
    chance: f64,
) -> DeliveryOutcome {
    let (error, asked) = match answer {
        Answer::Status(status, _) if status.is_success() => return DeliveryOutcome::Done,
        Answer::Status(StatusCode::GONE, _) => {
            let error = "HTTP 410 Gone: the receiver does not want it".to_owned();
            return DeliveryOutcome::Dead { error };
        }
        Answer::Status(status, _) if status.is_redirection() => (
            format!(
                "HTTP {status}: redirects are not followed; submit jobs with the URL that it redirects to"
            ),
            None,
        ),
        Answer::Status(status, asked) => (format!("HTTP {status}"), asked),
        Answer::None(mut why) => {
            why.truncate(why.floor_char_boundary(WHY_BYTES));
            (why, None)
        }
    };
    let end = claimed.since.after(TRIED_FOR);
    if now >= end {
        let tries = claimed.delivery.tries;
        return DeliveryOutcome::Dead { error: format!("{error}; gave up after a day ({tries} tries)") };
    }
    let doublings = claimed.delivery.tries.saturating_sub(1).min(16);
    let longest = BASE.saturating_mul(1 << doublings).min(CAP);
    // Half of it in any case, so that a receiver that is away has some peace.
    let wait = longest.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
    // The last try is at the end.
    let after = wait.max(asked.unwrap_or_default()).min(end.since(now));
    DeliveryOutcome::Again { after, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(0).after(Duration::from_secs(seconds))
    }

    fn after_try(tries: u32, answer: Answer, now: u64, chance: f64) -> DeliveryOutcome {
        let delivery = serde_json::from_value(serde_json::json!({
            "id": "msg_1", "job": "j", "queue": "default", "event": "ended", "url": "https://a.example",
            "created_at": at(0), "tries": tries, "due_at": at(60), "dead_at": null, "error": null,
        }));
        let claimed =
            ClaimedDelivery { delivery: delivery.expect("a delivery"), since: at(0), body: "{}".into() };
        outcome(&claimed, answer, at(now), chance)
    }

    fn status(code: u16) -> Answer {
        Answer::Status(StatusCode::from_u16(code).expect("a status"), None)
    }

    fn wait(outcome: DeliveryOutcome) -> f64 {
        match outcome {
            DeliveryOutcome::Again { after, .. } => after.as_secs_f64(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_2xx_is_the_end_and_410_is_another() {
        for code in [200, 201, 202, 204, 299] {
            assert_eq!(after_try(1, status(code), 1, 0.0), DeliveryOutcome::Done, "{code}");
        }
        let DeliveryOutcome::Dead { error } = after_try(1, status(410), 1, 0.0) else { panic!() };
        assert!(error.contains("410"), "{error}");
        for code in [100, 301, 302, 307, 400, 401, 404, 409, 429, 500, 503] {
            let again = after_try(1, status(code), 1, 0.0);
            assert!(
                matches!(&again, DeliveryOutcome::Again { error, .. } if error.contains(&code.to_string())),
                "{again:?}"
            );
        }
    }

    #[test]
    fn waits_grow_with_some_chance_in_them() {
        let no = || Answer::None("no answer in 15s".into());
        let waits: Vec<_> = (1..=12).map(|tries| wait(after_try(tries, no(), 1, 1.0))).collect();
        assert_eq!(waits, [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0, 2560.0, 3600.0, 3600.0]);
        assert_eq!(wait(after_try(1, no(), 1, 0.0)), 2.5);
        assert_eq!(wait(after_try(u32::MAX, no(), 1, 1.0)), 3600.0);
    }

    #[test]
    fn of_a_long_reason_the_beginning_is_kept() {
        let outcome = after_try(1, Answer::None("é".repeat(5000)), 1, 0.0);
        let DeliveryOutcome::Again { error, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(error, "é".repeat(WHY_BYTES / 2));
    }

    #[test]
    fn a_receiver_can_ask_for_more_peace() {
        let asked =
            |seconds| Answer::Status(StatusCode::SERVICE_UNAVAILABLE, Some(Duration::from_secs(seconds)));
        assert_eq!(wait(after_try(1, asked(600), 1, 1.0)), 600.0);
        assert_eq!(wait(after_try(5, asked(1), 1, 1.0)), 80.0, "not for less");
        assert_eq!(
            wait(after_try(1, asked(1_000_000), 1000, 1.0)),
            24.0 * 3600.0 - 1000.0,
            "not beyond its day"
        );
    }

    #[test]
    fn after_a_day_it_is_dead() {
        let day = TRIED_FOR.as_secs();
        assert_eq!(wait(after_try(30, status(500), day - 10, 1.0)), 10.0, "one last try");
        let DeliveryOutcome::Dead { error } = after_try(31, status(500), day, 1.0) else { panic!() };
        assert_eq!(error, "HTTP 500 Internal Server Error; gave up after a day (31 tries)");
    }
}
