//! What is to be told to webhooks of the progress of jobs.

use std::time::Duration;

use serde_json::Value;

use super::{
    Case,
    trial::{LONG, Trial, fail, job, success},
    webhooks::{URL, all, claim, settle, telling, told, webhooks},
};
use crate::{
    Progress, Webhook, WebhookEvent,
    backend::{ClaimKey, ClaimedDelivery, DeliveryOutcome, Heartbeat, Settlement, Update},
};

pub(super) const CASES: &[Case] = &[
    Case::new("webhook_progress: progress is told now and then, the latest alone", &[2], |t| {
        Box::pin(progress(t))
    })
    .needs(webhooks)
    .lasts(Duration::from_secs(18)),
    Case::new("webhook_progress: progress under way gives way to newer", &[2], |t| Box::pin(overtaken(t)))
        .needs(webhooks),
    Case::new("webhook_progress: older progress is not told after newer", &[2], |t| Box::pin(older(t)))
        .needs(webhooks)
        .lasts(Duration::from_secs(6)),
    Case::new("webhook_progress: progress that is not wanted ends", &[2], |t| Box::pin(unwanted(t)))
        .needs(webhooks),
    Case::new("webhook_progress: the last progress is told where the end is not", &[2], |t| {
        Box::pin(last_progress(t))
    })
    .needs(webhooks),
];

async fn tell(t: &Trial<'_>, key: &ClaimKey, fraction: f64) {
    let update = Update::default().progress(Progress { fraction, message: None });
    let beat = Heartbeat::new(key.clone(), t.ticks(LONG)).update(update);
    t.backend.heartbeat(vec![beat]).await.expect("heartbeat");
}

async fn progress(t: &Trial<'_>) {
    let fraction = |told: &[(WebhookEvent, Value)]| -> Vec<f64> {
        told.iter()
            .map(|(_, body)| body["data"]["progress"]["fraction"].as_f64().expect("a number"))
            .collect()
    };
    let claimed = t.start(telling(1)).await;
    tell(t, &claimed.key, 0.25).await;
    tell(t, &claimed.key, 0.5).await;
    t.beat(&claimed.key).await;
    let told_of = told(t).await;
    assert_eq!(fraction(&told_of), [0.5], "the latest alone");
    assert_eq!(told_of[0].0, WebhookEvent::Progress);
    for later in [0.625, 0.75] {
        tell(t, &claimed.key, later).await;
    }
    assert_eq!(fraction(&told(t).await), [0.0; 0], "now and then");
    t.pass_time(Webhook::PROGRESS_EVERY + Duration::from_millis(500)).await;
    let late = claim(t).await.pop().expect("what was told meanwhile is not lost");
    assert!(late.body.contains("0.75"), "{}", late.body);
    let away = DeliveryOutcome::Again { after: t.ticks(100), error: "HTTP 503".into() };
    assert!(settle(t, &late, away).await);
    t.pass_time(Webhook::PROGRESS_EVERY + Duration::from_millis(500)).await;
    tell(t, &claimed.key, 0.875).await;
    let waits = all(t).await;
    assert_eq!((waits.len(), waits[0].tries), (1, 1), "a receiver that is away has its peace: {waits:?}");
    tell(t, &claimed.key, 0.9375).await;
    assert_eq!(claim(t).await, []);
    t.finish(&claimed.key, success(1)).await;
    let told_of = told(t).await;
    assert!(matches!(&told_of[..], [(WebhookEvent::Ended, _)]), "the end is newer: {told_of:?}");
}

/// Claims the progress that is due; there is some.
async fn due_progress(t: &Trial<'_>) -> ClaimedDelivery {
    let claimed = claim(t).await.pop().expect("progress is due");
    assert_eq!(claimed.delivery.event, WebhookEvent::Progress);
    claimed
}

async fn overtaken(t: &Trial<'_>) {
    let claimed = t.start(telling(1)).await;
    tell(t, &claimed.key, 0.25).await;
    let first = due_progress(t).await;
    // It is under way, and stays that.
    tell(t, &claimed.key, 0.5).await;
    tell(t, &claimed.key, 0.75).await;
    assert_eq!(all(t).await.len(), 2, "what is under way, and the newest");
    let away = DeliveryOutcome::Again { after: t.ticks(20), error: "HTTP 503".into() };
    assert!(settle(t, &first, away).await);
    let left = all(t).await;
    assert_eq!((left.len(), left[0].tries, left[0].error.as_deref()), (1, 1, Some("HTTP 503")), "{left:?}");
    t.pass(15).await;
    assert_eq!(claim(t).await, [], "a receiver that is away has its peace");
    t.pass(6).await;
    let second = due_progress(t).await;
    assert!(second.body.contains("0.75"), "{}", second.body);
    assert_eq!((second.delivery.tries, second.since), (2, first.since));
    assert_ne!(second.delivery.id, first.delivery.id, "another body has another id");
    tell(t, &claimed.key, 0.875).await;
    assert!(settle(t, &second, DeliveryOutcome::Done).await, "it was told, whatever came meanwhile");
    let left = all(t).await;
    assert_eq!((left.len(), left[0].tries, left[0].error.as_deref()), (1, 0, None), "{left:?}");
    // The end leaves nothing of it.
    t.finish(&claimed.key, success(1)).await;
    let told_of = told(t).await;
    assert!(matches!(&told_of[..], [(WebhookEvent::Ended, _)]), "{told_of:?}");
}

async fn older(t: &Trial<'_>) {
    let claimed = t.start(telling(1)).await;
    tell(t, &claimed.key, 0.25).await;
    let first = due_progress(t).await;
    tell(t, &claimed.key, 0.5).await;
    t.pass_time(Webhook::PROGRESS_EVERY + Duration::from_millis(500)).await;
    let second = claim(t).await.pop().expect("it is due, whatever becomes of the first");
    assert!(second.body.contains("0.5"), "{}", second.body);
    assert!(settle(t, &second, DeliveryOutcome::Done).await);
    let away = DeliveryOutcome::Again { after: Duration::ZERO, error: "no answer".into() };
    assert!(!settle(t, &first, away).await, "it is past");
    assert_eq!(all(t).await, []);
    // The next one is told no sooner than it may be.
    tell(t, &claimed.key, 0.75).await;
    assert_eq!(claim(t).await, []);
}

async fn unwanted(t: &Trial<'_>) {
    let claimed = t.start(telling(1)).await;
    tell(t, &claimed.key, 0.25).await;
    let first = due_progress(t).await;
    tell(t, &claimed.key, 0.5).await;
    assert!(settle(t, &first, DeliveryOutcome::Dead { error: "HTTP 410".into() }).await);
    assert_eq!(all(t).await, [], "nobody redrives what is long past");
    tell(t, &claimed.key, 0.75).await;
    assert_eq!(all(t).await, [], "nor is there more of it");
    t.finish(&claimed.key, fail("no")).await;
    assert_eq!(told(t).await.len(), 1, "its end is told all the same");
    assert_eq!(t.redrive(&[&claimed.key.id]).await, std::slice::from_ref(&claimed.key.id));
    let again = t.take().await;
    tell(t, &again.key, 0.5).await;
    assert_eq!(all(t).await, [], "it is the same job");
}

async fn last_progress(t: &Trial<'_>) {
    let webhook = Webhook::new(URL).events([WebhookEvent::Progress]);
    let claimed = t.start(job(1).webhook(webhook)).await;
    let update = Update::default().progress(Progress { fraction: 1.0, message: None });
    let settlement = Settlement { update, ..Settlement::new(claimed.key, fail("no")) };
    t.backend.settle(vec![settlement]).await.expect("settle").remove(0).expect("settled");
    let told_of = told(t).await;
    assert_eq!((told_of.len(), &told_of[0].1["data"]["progress"]["fraction"]), (1, &1.0.into()));
}
