//! Whose turn it is.

use std::{collections::BTreeMap, convert::Infallible};

use super::*;

fn queues(text: &str) -> Queues {
    text.parse().expect("queues")
}

/// From which queues so many jobs come one after the other, where these have
/// jobs and the others have none.
fn served(queues: &Queues, with_jobs: &[&str], turns: std::ops::Range<u64>) -> BTreeMap<String, u64> {
    let mut served = BTreeMap::new();
    for turn in turns {
        let next = |name: &QueueName| Ok(with_jobs.contains(&name.as_str()).then(|| name.to_string()));
        let drawn: Result<Vec<String>, Infallible> = queues.draw(turn, 1, next);
        *served.entry(drawn.expect("no error").remove(0)).or_default() += 1;
    }
    served
}

fn counts<const N: usize>(counts: [(&str, u64); N]) -> BTreeMap<String, u64> {
    counts.map(|(name, count)| (name.to_owned(), count)).into()
}

#[test]
fn names_are_short_and_plain() {
    let longest = "x".repeat(80);
    for name in ["a", "default", "Team_7.bulk-jobs", &longest] {
        assert_eq!(QueueName::new(name).expect(name).as_str(), name);
    }
    let too_long = "x".repeat(81);
    for name in ["", " ", "a b", "ä", "a/b", "a=1", "a,b", "a\n", &too_long] {
        let error = QueueName::new(name).expect_err(name).to_string();
        assert!(error.contains("is not the name of a queue: it is 1 to 80"), "{error}");
    }
}

#[test]
fn the_default_queue_has_one_name() {
    let named: QueueName = "default".parse().expect("a name");
    assert!(named.is_default() && named == QueueName::default());
    assert_eq!(serde_json::to_string(&named).expect("JSON"), r#""default""#);
    assert_eq!(serde_json::from_str::<QueueName>(r#""default""#).expect("a name"), QueueName::default());
    assert!(serde_json::from_str::<QueueName>(r#""no way""#).is_err());
    assert!(named < QueueName::new("e").expect("a name"), "ordered by name");
    assert!(named > QueueName::new("c").expect("a name"), "ordered by name");
}

#[test]
fn queues_travel_as_json_and_as_text() {
    for (text, json) in [
        ("default", r#"{"in_order":["default"]}"#),
        ("b,a", r#"{"in_order":["b","a"]}"#),
        ("a=1,b=6", r#"{"by_weight":{"a":1,"b":6}}"#),
    ] {
        let queues = queues(text);
        assert_eq!(
            (queues.to_string().as_str(), serde_json::to_string(&queues).expect("JSON").as_str()),
            (text, json)
        );
        assert_eq!(serde_json::from_str::<Queues>(json).expect("queues"), queues);
    }
    assert_eq!(Queues::default(), queues("default"));
}

#[test]
fn what_makes_no_sense_is_refused_with_the_reason() {
    let many: Vec<_> = (0..17).map(|n| n.to_string()).collect();
    for (text, reason) in [
        ("", "is not the name of a queue"),
        ("a,a", r#""a" is named twice"#),
        ("a=1,a=2", r#""a" is named twice"#),
        ("a=1,b", "give each one, or none"),
        ("a=0", "a number from 1 to 100"),
        ("a=101", "a number from 1 to 100"),
        ("a=x", "a number from 1 to 100"),
        ("a=", "a number from 1 to 100"),
        (&many.join(","), "1 to 16 queues, and not 17"),
    ] {
        let error = text.parse::<Queues>().expect_err(text).to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
    assert!(Queues::InOrder(Vec::new()).validate().is_err());
}

#[test]
fn an_order_holds_but_for_one_job_in_ten() {
    let queues = queues("first,second,third");
    let all = ["first", "second", "third"];
    assert_eq!(served(&queues, &all, 0..9), counts([("first", 9)]));
    // Those in the middle are not forgotten: each has its turn.
    assert_eq!(served(&queues, &all, 5..205), counts([("first", 180), ("second", 10), ("third", 10)]));
    assert_eq!(served(&queues, &["third"], 0..50), counts([("third", 50)]));
    assert_eq!(served(&queues, &["second", "third"], 0..200), counts([("second", 190), ("third", 10)]));
}

#[test]
fn weights_are_kept_exactly_in_each_round_from_wherever_it_begins() {
    let queues = queues("a=6,b=3,c=1");
    for begin in [0, 3, 1_000_007] {
        let round = served(&queues, &["a", "b", "c"], begin..begin + 10);
        assert_eq!(round, counts([("a", 6), ("b", 3), ("c", 1)]), "from {begin}");
    }
    let b: Vec<_> = (0..10).filter(|turn| queues.order(*turn)[0].as_str() == "b").collect();
    assert!(b.windows(2).all(|pair| pair[1] - pair[0] >= 2), "spread out: {b:?}");
}

#[test]
fn what_an_empty_queue_leaves_goes_to_the_others_by_their_weights() {
    let queues = queues("a=6,b=3,c=1");
    assert_eq!(served(&queues, &["b", "c"], 0..400), counts([("b", 300), ("c", 100)]));
    assert_eq!(served(&queues, &["a", "c"], 0..700), counts([("a", 600), ("c", 100)]));
    assert_eq!(served(&queues, &["c"], 0..10), counts([("c", 10)]));
}

#[test]
fn a_claim_of_many_is_as_many_claims_of_one() {
    for text in ["a,b,c", "a=5,b=2,c=1"] {
        let queues = queues(text);
        let jobs = || BTreeMap::from([("a", 40), ("b", 10), ("c", 100)]);
        let take = |jobs: &mut BTreeMap<&str, u32>, name: &QueueName| {
            let left = jobs.get_mut(name.as_str()).filter(|left| **left > 0)?;
            *left -= 1;
            Some(name.to_string())
        };
        let (mut together, mut single) = (jobs(), jobs());
        let draw = |jobs: &mut BTreeMap<&str, u32>, turn, max| {
            let drawn: Result<_, Infallible> = queues.draw(turn, max, |name| Ok(take(jobs, name)));
            drawn.expect("no error")
        };
        let many = draw(&mut together, 7, 200);
        let ones: Vec<_> = (7..157).flat_map(|turn| draw(&mut single, turn, 1)).collect();
        assert_eq!((many.len(), many), (150, ones), "{text}");
    }
}

#[test]
fn a_queue_without_jobs_is_asked_once() {
    let queues = queues("a=5,b=2");
    let mut asked = 0;
    let drawn: Result<Vec<()>, Infallible> = queues.draw(0, 100, |_| {
        asked += 1;
        Ok(None)
    });
    assert_eq!((drawn.expect("no error").len(), asked), (0, 2));
}
