//! The bodies of `haulage submit`: one document, or JSON Lines.
#![no_main]

#[path = "../../crates/haulage-cli/src/input.rs"]
#[allow(dead_code, reason = "files and stdin are read as well")]
mod input;

/// As much of the command line's exits as its input needs.
mod exit {
    pub(crate) type Result<T = (), E = Exit> = std::result::Result<T, E>;

    #[derive(Debug, PartialEq, Eq)]
    pub(crate) enum Code {
        Usage,
        Other,
    }

    #[derive(Debug)]
    pub(crate) struct Exit {
        pub(crate) code: Code,
        pub(crate) messages: Vec<String>,
    }

    impl Exit {
        pub(crate) fn usage(message: impl Into<String>) -> Self {
            Self { code: Code::Usage, messages: vec![message.into()] }
        }

        pub(crate) fn about(mut self, what: &str) -> Self {
            self.messages.iter_mut().for_each(|message| *message = format!("{what}: {message}"));
            self
        }
    }

    impl From<haulage::Error> for Exit {
        fn from(error: haulage::Error) -> Self {
            Self { code: Code::Other, messages: vec![error.to_string()] }
        }
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(json) = input::document(data, "fuzz") {
        assert!(serde_json::from_str::<&serde_json::value::RawValue>(json.as_str()).is_ok());
    }
    let lines = input::Lines::in_memory("fuzz".to_owned(), data.to_vec());
    let of = data.split(|byte| *byte == b'\n').count();
    match lines.survey() {
        Ok(survey) => {
            let (mut number, mut largest) = (0, 0);
            for body in lines.bodies().expect("a second time") {
                let (line, body) = body.expect("it was good");
                assert!((1..=of).contains(&line));
                number += 1;
                largest = largest.max(body.size());
            }
            assert_eq!((survey.count, survey.largest), (number, largest));
        }
        Err(exit) => {
            assert_eq!(exit.code, exit::Code::Usage);
            assert!((2..=12).contains(&exit.messages.len()));
            assert!(exit.messages[0].starts_with("fuzz line "), "{:?}", exit.messages);
        }
    }
});
