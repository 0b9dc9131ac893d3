//! The data is what `data/README.md` says, and what is not an image is refused.

use haulage_digits::{DIGITS, Halves, Image, image};

fn refusal(csv: &str) -> String {
    image::parse(csv).expect_err("a bad line").to_string()
}

fn line(pixels: usize, label: &str) -> String {
    format!("{}{label}", "0,".repeat(pixels))
}

#[test]
fn there_are_1797_images_with_the_documented_count_of_each_digit() {
    let images = image::images().expect("the data parses");
    let mut counts = [0; DIGITS];
    for image in &images {
        counts[usize::from(image.label)] += 1;
    }
    assert_eq!(images.len(), 1797);
    assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
}

#[test]
fn the_halves_share_nothing_and_leave_nothing_out() {
    let Halves { training, held_out } = Halves::embedded().expect("the data parses");
    assert_eq!((training.len(), held_out.len()), (899, 898));
    assert!(training.iter().all(|image| image.index % 2 == 0));
    assert!(held_out.iter().all(|image| image.index % 2 == 1));

    let mut together = [training, held_out].concat();
    together.sort_by_key(|image| image.index);
    assert_eq!(together, image::images().expect("the data parses"));
}

#[test]
fn no_image_is_in_both_halves_under_two_indices() {
    let Halves { training, held_out } = Halves::embedded().expect("the data parses");
    let copies: Vec<&Image> =
        held_out.iter().filter(|image| training.iter().any(|other| other.input == image.input)).collect();
    assert!(copies.is_empty(), "seen in training: {copies:?}");
}

#[test]
fn a_bad_line_is_named() {
    let good = line(64, "7");
    assert_eq!(image::parse(&good).expect("a good line")[0].label, 7);

    assert_eq!(
        refusal(&format!("{good}\n{}", line(63, "7"))),
        "line 2 of the images: an image has 64 pixels (8 rows of 8), but this one has 63"
    );
    assert_eq!(
        refusal(&line(64, "10")),
        "line 1 of the images: the label has to be a digit from 0 to 9, but it is 10"
    );
    assert_eq!(
        refusal(&line(64, "seven")),
        "line 1 of the images: `seven` is not a whole number from 0 to 255"
    );
    assert_eq!(
        refusal(&format!("{good}\n\n{good}")),
        "line 2 of the images: `` is not a whole number from 0 to 255"
    );
}
