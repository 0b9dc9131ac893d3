//! What a job may carry, in memory and as JSON.

use haulage_digits::{Input, InputError, PIXELS};

#[test]
fn an_image_survives_json() {
    let pixels: Vec<u8> = (0..PIXELS as u8).map(|index| index % 17).collect();
    let input = Input::new(&pixels).expect("a good image");
    assert_eq!(input.pixels().as_slice(), pixels);

    let json = serde_json::to_string(&input).expect("serializes");
    assert!(json.starts_with(r#"{"pixels":[0,1,2,"#), "{json}");
    assert_eq!(serde_json::from_str::<Input>(&json).expect("parses"), input);
}

#[test]
fn too_few_and_too_many_pixels_are_refused() {
    for found in [0, 63, 65, 784] {
        let error = Input::new(&vec![0; found]).expect_err("a wrong count");
        assert_eq!(error, InputError::Count { found });
        assert_eq!(
            error.to_string(),
            format!("an image has 64 pixels (8 rows of 8), but this one has {found}")
        );
    }
}

#[test]
fn a_pixel_above_16_is_refused_and_located() {
    let mut pixels = [16; PIXELS];
    assert!(Input::new(&pixels).is_ok());

    pixels[19] = 255;
    let error = Input::new(&pixels).expect_err("too dark");
    assert_eq!(error, InputError::Value { index: 19, value: 255 });
    assert_eq!(
        error.to_string(),
        "pixels go from 0 to 16, but the one in row 3, column 4 is 255; \
         an image with 256 grey levels has to be scaled down first"
    );
}

#[test]
fn json_that_is_not_an_image_is_refused_with_the_same_messages() {
    let refusal = |json: &str| serde_json::from_str::<Input>(json).expect_err("not an image").to_string();
    assert!(refusal(r#"{"pixels": [1, 2, 3]}"#).contains("but this one has 3"));
    assert!(refusal(r#"{"pixels": [300]}"#).contains("integer `300`, expected u8"));
    assert!(refusal(r#"{"pixels": [0.5]}"#).contains("floating point `0.5`, expected u8"));
    assert!(refusal(r#"{"image": []}"#).contains("unknown field `image`"));
    assert!(refusal("{}").contains("missing field `pixels`"));

    let dark = format!(r#"{{"pixels": [17{}]}}"#, ",0".repeat(PIXELS - 1));
    assert!(refusal(&dark).contains("row 1, column 1 is 17"));
}
