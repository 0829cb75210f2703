//! Hashes that the real programs made, and the passwords that they made them of.

use proptest::prelude::*;

use super::scheme::StoredHash;
use super::{WeakDigest, parse};
use crate::domain::user::PasswordHash;
use crate::passwords::plain::PlainPassword;
use crate::passwords::{ImportedHash, is_well_formed, read_imported};

/// Passwords that stand for longer ones, and two spellings of one.
const S72: &str = "72 times s";
const S73: &str = "73 times s";
const LONG: &str = "4,096 times x";
const UMLAUTS: &str = "36 times \u{fc}";
const NFC: &str = "caf\u{e9}s \u{e0} Z\u{fc}rich";
const NFD: &str = "cafe\u{301}s a\u{300} Zu\u{308}rich";

/// By Django 5.2.19, argon2-cffi 25.1.0 and bcrypt 4.3.0: `hasher().encode(password, salt)` of each hasher in
/// `django.contrib.auth.hashers`, in a subclass of the lowest costs; the salt is drawn, or `x` and `salt é/+= .`.
const DJANGO: [(&str, &str); 54] = [
    ("before\0after", "pbkdf2_sha256$20$LrXtSRechablFOCSlNK531$SsdH8GA8lAcJPxzrpOohRhh/RhrpBrI8vSbAoMmty4Q="),
    (S72, "pbkdf2_sha256$20$fPZaA5CiRT32u3DP26u8Ea$FOllsXitwWkGjRTdEecag2Zg99n6SCr06o4Sc4nbV/0="),
    (S73, "pbkdf2_sha256$20$snmh2u8TIrCeqOtHzoNwaY$MGhCUkI8oqwjaWSuvgVwtbpImW3yB4ANhrYPL4WRj68="),
    (NFD, "pbkdf2_sha256$20$1Fw1TIFYs2EXeoFygGB40h$A8vgroSgGxLR9g3WjB9GRwS7jVhQrky+C4PLqSYgr98="),
    (NFC, "pbkdf2_sha256$20$dey0JBMup2Xdjr1tbVRF7c$Nqah0AJQIqdWgOuaL8aIEkYgRs7RYxJyV9b/tf6HYpA="),
    (LONG, "pbkdf2_sha256$20$dcs79CTwoBB7ox3KgdQ45J$3blIcOTy1pBfy1XaqgSUZiCxqfMhNWuO+0QSuvCDBLg="),
    ("  two  ", "pbkdf2_sha256$20$jp35EQxONSbTEvr3VPk2WW$gm6EKe9vK84TLuHDrGDz49oxQrOoTQlyTcOysImKsyM="),
    ("🍷 trocken", "pbkdf2_sha256$20$j8bFTkmKWSVde2fQIXNtD2$BnY6M+zpzqXuRvpFmbmx9WhFSo86/Ebre3egXxzOCIw="),
    ("before\0after", "pbkdf2_sha1$20$NWAxEbRCr9XvbdaXP2UN1M$hTd9z02Wz/smOpiV+QnPQa7r7M0="),
    (S72, "pbkdf2_sha1$20$lr4jyliVC9Fd0nKajhmNBc$LBLOrg+s9vJ6DlRofd5+rySpFQk="),
    (S73, "pbkdf2_sha1$20$W5GegbNGrYzKDLYEsV3XcT$MKzEJZt/TC2PaeiD9f1+OGsdoFs="),
    (NFD, "pbkdf2_sha1$20$pf3TcvL8KjmB5NPgwHYFu5$Cgx50BmRtNagiK2B/T9jSzi6OCY="),
    (NFC, "pbkdf2_sha1$20$Hp626r5ALlwfPTnLCItDKF$KxFm8gPEUrKlNFrKFY9Hvm2GwFg="),
    (LONG, "pbkdf2_sha1$20$rxArY0RK4Qr224ndvFe7O8$qO9x/Ss7uLJA117wURuUbC+6fmE="),
    ("  two  ", "pbkdf2_sha1$20$5P4wR4NsmNMFFarrX1cmi4$WR7EB4gR7y/eiViC83sBuOiu60I="),
    ("🍷 trocken", "pbkdf2_sha1$20$gh9T9bOZXcaAMXvvCqeE7K$EtxDZQlRVvd3lHBGZ2Siux6v9Z8="),
    (
        "before\0after",
        "argon2$argon2id$v=19$m=64,t=1,p=8$T1FKY2pNeXBDRFRJQ3NyZ1loc2kycw$70xNB6UAzm/KhdjQYsZxAkbolfrtPfrhlnf2o8dAreY",
    ),
    (
        S72,
        "argon2$argon2id$v=19$m=64,t=1,p=8$NlBGR0FIR3F0OVRld0RoQ2lIek10VA$O0xFIdyAXkl5RimujWb4I5Zlwl+N5YbOzHAO787aMr4",
    ),
    (
        S73,
        "argon2$argon2id$v=19$m=64,t=1,p=8$c0h1aHNUREdWaHlqRkUxdXVKeG5BMQ$cy1sRD0cqocGFGNqQXvDiXSMu9yWFLmLQ6xoJPdDqbs",
    ),
    (
        NFD,
        "argon2$argon2id$v=19$m=64,t=1,p=8$a3BrS1F0dTBZZkxYcWxCbHBZVTFTUA$ReQvrOsl0C/kVh40LibSM2KaT1sFeuwV3WK+Yup3soo",
    ),
    (
        NFC,
        "argon2$argon2id$v=19$m=64,t=1,p=8$b0JHbkp3N2RIbXJVWTB3akpMcHBHSg$XONsk0PR3zOtaYW0pvNlh1sTcNzotnswaRayYNfIGY0",
    ),
    (
        LONG,
        "argon2$argon2id$v=19$m=64,t=1,p=8$WVpwSHJ5SmxaYWpKMHRYZEU0eFMzdg$Shqq0FSrzE3KBClR5L7Om9JiYBHHavCZ1ugxKXPc8WU",
    ),
    (
        "  two  ",
        "argon2$argon2id$v=19$m=64,t=1,p=8$eDByNTBqaTlta01rVVRQcFVJbnZieA$NtKVOnSFLkPxeFLbKi6tpyWuFIl+T55a1zUy0zTfcqU",
    ),
    (
        "🍷 trocken",
        "argon2$argon2id$v=19$m=64,t=1,p=8$Tm9HNzRTTkFoNzJKRGFSYUlqUjgwcA$NBq6pEwmXJIjnp1+5s8j6L9zC5CqhBLxTpG8nnS2Nuo",
    ),
    ("before\0after", "bcrypt_sha256$$2b$04$RaZGTnQB8ef9rNMQwHLe/ukAqDl9WgptQtn96vhQ0O4LgnSe2UV96"),
    (S72, "bcrypt_sha256$$2b$04$UdUAizGBDaBtq68NRHaY7.LEmdcmRWI8idw.9sGB2z6DULOgdQeke"),
    (S73, "bcrypt_sha256$$2b$04$tnTCOTRM.eYReHOdnRXBe.oPnw4v21aQ/rCeTVylulYclLiQAKEE."),
    (NFD, "bcrypt_sha256$$2b$04$t.tEFhpB/DI2r.YgEjfdDuB5KixCmFigcaNpYY5/QuY3jhRuGrEIG"),
    (NFC, "bcrypt_sha256$$2b$04$CaU13ROs.FWb3qQ98k/bYeo9sGD5nSOTZktwznOhNfNo3IxG.7IYa"),
    (LONG, "bcrypt_sha256$$2b$04$zRd4qW3Ks.0i.tbUrVCpVeZ3RzmbwFEDg2qr0h.LQYuHr7CHCBw1."),
    ("  two  ", "bcrypt_sha256$$2b$04$UCf5EtnIUllDQT/bZyTS8eZLgOzCd8m.NGM8ainSbHHFGi5traAc6"),
    ("🍷 trocken", "bcrypt_sha256$$2b$04$wA0ml.6clsq/LwvRR2XEUOwsKIGnEUPrys75Ral6/GV36XjmsiCOy"),
    ("before\0after", "bcrypt$$2b$04$mzLuKciwYQfjY1PxIC8OvO3PbxhIVFyuITCROODgoCsEac5IiEnOG"),
    (S72, "bcrypt$$2b$04$kde8jtZP.7eoughTuEeS4eUBMzGWbVzkfdJ3Uy6bXnBJ6N8U8EWwu"),
    (S73, "bcrypt$$2b$04$QbkZR98ZJezJ5vIpKu0JCeFHPc8B6GYV5S/twIVgj6NxpoxuUoTUC"),
    (NFD, "bcrypt$$2b$04$hTPfqbNxBBH4qQq4hiiQme2M0NyQVuvBpT.kFQe8iwv.Nss8IQRq."),
    (NFC, "bcrypt$$2b$04$RIQweEClasg2gHFZVGh7nukik12qgNjsBUoGCyzt6uPeuoH.DGOc6"),
    (LONG, "bcrypt$$2b$04$sjishIOVFKRYxNaGFeoZgu/pJNmrmZOrPum2vf/AZPrYv2nD3sFIO"),
    ("  two  ", "bcrypt$$2b$04$ZGrsYXHv/uVQEfhw./IXeuv9jFxwW9do6da3tTxcRwgrx.y5iCfZK"),
    ("🍷 trocken", "bcrypt$$2b$04$PaPFh1p6JUQmSaSzKTmB8ewxmDZOQZCVbVAcsMwrAnvB6E2yTalwu"),
    (
        "before\0after",
        "scrypt$16$unC57n3I0dmueXcycyw3H9$8$1$1pbp7qjLvTKQ/w+YGweDHtAK1osGcQHSMegp3MWTeAgcGyBGm7Phcf/pFbKHczvFMmNuFCMaIt8UiN21mdG3iQ==",
    ),
    (
        S72,
        "scrypt$16$u9h0NYLVUkd26Aziuclba2$8$1$uZ6b7qROZSWKl8E5MovlJzKCZ5JzgCWCCozaoRF8Kke8NtILufk07j5ahOinlepOQj87cWhascfYzR2dYbyDRw==",
    ),
    (
        S73,
        "scrypt$16$5QVbxry6JMJ6xfegNTbLNw$8$1$qOouvV2vXMVHZjf8MM9V4p1sz18DnAil1SewDaGLQVbicTo+9Xi03sLIOCJrnpeXQn4NM4PisDknHHHeUqtVMw==",
    ),
    (
        NFD,
        "scrypt$16$v2ae8zSjyhU3rrFrIh9qWy$8$1$VzvZJn40K+kgiiNqfsy16sceDk9yuLno/0vvxylipSxwa3LONiKBhEaN7jcP7K5OEQHYjesZFPJ0BcKvp5qYCQ==",
    ),
    (
        NFC,
        "scrypt$16$kv7wBhlNNpD2MFzdaA1plh$8$1$oPLmy3RJKn6PXHFux4GMdURjIw+OggsX3FtmLmHDJ5RnVHjSqj+7OwJVuRCtH9nVAQHA7K9w55Ajgvw6g9lt5w==",
    ),
    (
        LONG,
        "scrypt$16$redgbnFvPKSGB8y2vLYt5G$8$1$68FAR4AZCqbhnGkRS1ZMvGOfrUlk4zp72TczkbbJtqejixcn9rhrjkGC7UkZEjXm7KNH4pfumfkEPUzYGf+XVA==",
    ),
    (
        "  two  ",
        "scrypt$16$RQBDxBXHsXVaFHrlFYcYpy$8$1$HJaqooe737Hfh7gGbYcwVlsNxV8YXbhg51ePmaR8SAV27IiICdbHKcxX5Pd1DPoOGGNzvf2QXKBwNdQXXWfH9w==",
    ),
    (
        "🍷 trocken",
        "scrypt$16$8TrmCn8JVbQWl9iQ1uR7yv$8$1$hP+36/NYjF9okKx8yaQjTGebXQm3prDtBzFbo/57HKesLilUnuZ9OD4LiwmBdUbQE4hyjcW0v54tPFhMTDmzQQ==",
    ),
    ("hunter2", "pbkdf2_sha256$20$x$ms37clI1TB3ZRZIu3MnwFm6UeWUzEKHXRx1+bFNnW0s="),
    ("hunter2", "pbkdf2_sha256$20$salt é/+= .$dBwZTS/rYGIoA5TJitVKdIr8Dv9j3Sda+SUebuWkcvw="),
    ("hunter2", "pbkdf2_sha1$20$x$E9Wv1SYqo9FulEB2A3kAXD5u0BU="),
    ("hunter2", "pbkdf2_sha1$20$salt é/+= .$1QyKiV+3rj1GmHpuuUAs6Ly+M7w="),
    (
        "hunter2",
        "scrypt$16$x$8$1$LgXts+zPrDLvym90cFpfVpGrble+S1r4hYEbDspTsP/v8xj5UQBD0w/QWDtKg9YU/8Cp928kbf6Knn3K3pjg7Q==",
    ),
    (
        "hunter2",
        "scrypt$16$salt é/+= .$8$1$2afKSbuKoy5JjVK3RASwF4LHoO7iIj42SS6+GwQzTSNXcjjrzmcFcQ6SrUlRReSxc5l/vMwa1I+88+/c+kzWtg==",
    ),
];

/// By Django 1.7.11, 2.2.28, 3.2.25, 4.2.30, 5.2.19 and 6.1.3 at their own costs: `make_password(password, hasher=name)`.
const DJANGO_AT_ITS_OWN_COSTS: [(&str, &str); 29] = [
    ("grüner Veltliner 17", "pbkdf2_sha256$15000$DOGauSZInRJz$phJMl0CqQua0wPTBRPowRbSzb6bdOpS8rPcdTosA6WQ="),
    ("grüner Veltliner 17", "pbkdf2_sha1$15000$SZ6HoRjGlgYf$EFpMrf4YmE4uJ0qwFRmYkZSHjb8="),
    ("grüner Veltliner 17", "bcrypt_sha256$$2b$12$nFRm4D3uauqutBrE8uK3yOKbluhd5a54xsYTqVP2ZepejL2.W.A2a"),
    ("grüner Veltliner 17", "bcrypt$$2b$12$OJ1MBzIxNtlcq9N1N8nzUuyn4WhJTvUbHnHPAv29LmoiwIhlwBXyW"),
    ("grüner Veltliner 22", "pbkdf2_sha256$150000$KZ0Q9SBnJxfQ$RZuKkQGtPWMwhmrID6Z6Wn6aoeSEmfzfOQXj7isDqXE="),
    (
        "grüner Veltliner 22",
        "argon2$argon2i$v=19$m=512,t=2,p=2$VDJ2RFh1aHFjWm1r$WMX44k4leQkAgkzJ/dY4Y9fHefyV7PFu6DVE8nbUptQ",
    ),
    ("grüner Veltliner 22", "bcrypt_sha256$$2b$12$zXsvo9f2Z18P6x42hRX5ceDA.naq9hgNZh1i99nfT4Uzcuw5o2q1u"),
    ("grüner Veltliner 22", "bcrypt$$2b$12$AOpLTmykZ823RhgoDlPCFOPIY0KlEG9faBt3S469hyxntsg6F3Jk2"),
    (
        "72-22-kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkend",
        "bcrypt$$2b$12$lYbs8NW70C7LWQ8KIT6CwOhxSOEKLfrcxu1qSuXHqofgO7gOgMmi2",
    ),
    ("grüner Veltliner 32", "pbkdf2_sha256$260000$LsjZiLewgHTBOmvSSPo6mi$bcNhrcQMEDmzLkcMc/Q3kc7saiuV/XInO4iK4qeo6LA="),
    ("grüner Veltliner 32", "pbkdf2_sha1$260000$3CAV2qeDzcxdm2dHNp5o4n$PRm324KVHu2ckQSbhLrk2fNZwLI="),
    (
        "grüner Veltliner 32",
        "argon2$argon2id$v=19$m=102400,t=2,p=8$dHAzZGVoZWhpd21NM1BKclMzZ3I2UA$HyUoQs4+JBBcSL3m1mmRvIYhFT4HdO160BpF8oNitBo",
    ),
    ("grüner Veltliner 32", "bcrypt_sha256$$2b$12$mxi7Gnih7HbPt.Vg7bKDpOpMWH96Dz7zznQYMjppCOTwnrGElE8ay"),
    ("grüner Veltliner 32", "bcrypt$$2b$12$f6n9CayFFhk8d1TEQaKjR.ntr6mlEb9VTX0hbZufKtOg0katAZ.LW"),
    ("grüner Veltliner 42", "pbkdf2_sha256$600000$ZrLVtxFgNGB2xiqtRY53o1$jCMtJReJG+Wh64WfA43A38n4t6dg+T1EP3Zvu4k2zLo="),
    (
        "grüner Veltliner 42",
        "scrypt$16384$eBleYzJswYXUsCuaTb36BT$8$1$b2lkk2HodeRDPMkAu6xidkawmxeLIqC3xYFQIr4m3XUMq2DksOmoTBQ1dxw5ZVIZQ/YOW/gKSiXsMMmUH1a8sw==",
    ),
    (
        "grüner Veltliner 42",
        "argon2$argon2id$v=19$m=102400,t=2,p=8$cncwQmpSQW5PZ2MwTmEwRmpvcEpSNQ$NOQlmbtt8CGCxi4xyMbhsMbrkXtW5MmBwFUvYPJNaTk",
    ),
    ("grüner Veltliner 42", "bcrypt$$2b$12$JZ/tGAMMz2wvbA4XrZ07IOxq3af7N9MyJlojuRRhnAZsEpqkqpG4q"),
    (
        "72-42-kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkend",
        "bcrypt$$2b$12$o2zAbIEwCwXQ5S6ooXDD7ukTJQoUO7XSUpVrYJXs4Hy5fcrdDz9G.",
    ),
    (
        "grüner Veltliner 52",
        "pbkdf2_sha256$1000000$L3aqmYIgYTvptqWeqVs83e$QhKnn8xKeIwyrlX/jY5pjXTKY+ptoX0ohpWETBkGT88=",
    ),
    ("grüner Veltliner 52", "pbkdf2_sha1$1000000$DCtbKTpt5sUpuayG1V9Dq3$sLzao6WvUV4sFiDLkqCdeXlWK5Y="),
    (
        "grüner Veltliner 52",
        "argon2$argon2id$v=19$m=102400,t=2,p=8$M2t3UHFlRUZkbWZEQWgwMnk5d2RldQ$W3ioDV+Bx/8aB2yhP8y0USrmu1YjyEX35IIZY0Ta7E0",
    ),
    ("grüner Veltliner 52", "bcrypt_sha256$$2b$12$wja1f0dKqM6f4AWWq8hAnezvIH5S0E2/iO/CV4itg11q68zUzvUNS"),
    ("grüner Veltliner 52", "bcrypt$$2b$12$yBl53.IxceIfqXh1gKbRX.dc2l0fVk7L.NfavsIP4gAZp0L3lU6xS"),
    (
        "grüner Veltliner 52",
        "scrypt$16384$updu6WQevqBJQN1GkHC0XQ$8$5$z40iDBGL5m4mHnZ/I5zjHxi3U7Q2OnDjdURMu9R//ChrqK+9GToTFU30x7SPgVsn0YKVCFcESKjYP4ISRyggoA==",
    ),
    (
        "grüner Veltliner 61",
        "pbkdf2_sha256$1500000$mwQFzOchQbsV5lI23ww74I$OQMitQslhBRtLKf8lEXygpG9Njvl/bpoMpCee0+A+lE=",
    ),
    (
        "grüner Veltliner 61",
        "argon2$argon2id$v=19$m=102400,t=2,p=8$UklUR1BpWVVEMzFSU3pQZ2pwQUlEVA$vx+kcf/SEyPkQXDQT1z2FgxzHARjD02ACPt5K7TfsQk",
    ),
    (
        "grüner Veltliner 61",
        "scrypt$16384$M8LzkAMQOreX5dct9cBtB5$8$5$0ivyapQYBhz0HtLitjlYRXK/EfGvlgYotQ00qVV9J4Ns4BlvcB/5GBuBDCGO9r6uHI9F4wid7ZYCyRZW2E3BVg==",
    ),
    ("grüner Veltliner 61", "bcrypt_sha256$$2b$12$K6joYpJW.BFUoNroo8AhNOausYlQwJ67gBapIb6127fUymxlLwTZ."),
];

/// By the same, of hashers that are weak.
const DJANGO_WEAK: [(&str, &str); 11] = [
    ("grüner Veltliner 17", "sha1$add97CKU1UTs$e8a1e863ff8f32d5cf41a4a75d4ae2bc7ec4059c"),
    ("grüner Veltliner 17", "md5$OY3qIs5VHh9p$2130c86927ca55112c30ec6a71c8b73b"),
    ("grüner Veltliner 17", "8e221a2048ee8a6a35708f3c3507be17"),
    ("grüner Veltliner 17", "sha1$$730c0fde00bd9f92013dff2a2a3cb93c3cc759be"),
    ("grüner Veltliner 32", "sha1$jW1kHfSCRBe2wKJqIIMBQ7$1ead6c5eb80df0ccc66c7db212b3ee96445f7877"),
    ("grüner Veltliner 32", "md5$BXkgjAbGYou3TZBfZ8OBRb$ba3b233f1f7c7d3aa27f14a37ebe5776"),
    ("grüner Veltliner 32", "d23f7ae3f8ef15c5f750328de74e97d0"),
    ("grüner Veltliner 32", "sha1$$6b8da0e8754df13afad07fce149a0d8dc2216ead"),
    ("grüner Veltliner 42", "sha1$GfbDhwEiuW37r1dBHzyhck$875e9f06f097615e5deaf3dd3f6c7805d0822c7e"),
    ("grüner Veltliner 42", "3e081ed4d76827945f32cb0cd9199cc5"),
    ("grüner Veltliner 52", "md5$OfFotx1wXuyFMBnkW4FDlR$8b99d403d4048d96f73b2ba3be7cd24d"),
];

/// By passlib 1.7.4 with bcrypt 4.3.0: `bcrypt.using(rounds=4, ident=ident).hash(password)` and `django_….using(…)`.
const PASSLIB: [(&str, &str); 25] = [
    (S72, "$2a$04$4nwkE7.7E5UXYRk7X24KgeG/HFHb.y3pPbTMD1ehDEDJ.4qGWjiO6"),
    (S72, "$2b$04$gn9Jr0DXDAShTWXHYY1INu9RgGJhJxbmFNKGmJVmVpPrFxipWeAIK"),
    (S72, "$2y$04$D18H4VAOMTGes0Yi96GDnOAV5sr/D41.iVHeZdMBESoJbkBQZTT6a"),
    (S73, "$2a$04$IlYAyVs19JsthDS0yce5s.HU9YDx2yx0YauS2vKbmyCWrYN672/z2"),
    (S73, "$2b$04$R4aKCe8V5maPXbPIqXN.bOuZfXT/y0IaopXBhg0iqhPW4Xf641TG6"),
    (S73, "$2y$04$bWgbMdLAlq9S2kQOAO5uv.qj3HYr4XeWmZz2WOSKofrGwdJvHw8.i"),
    (NFD, "$2a$04$/393JfqN1c8fzH6.eNB8tO18qUkqTva8M3nIZl4S.roZ7hZZSDbGW"),
    (NFD, "$2b$04$qbug4QSVLPDDjES/SvzV..Ir4EJZTrM6rejToI9tPl0gyVDcGohCW"),
    (NFD, "$2y$04$/160t19Z6guhuh8Zbi.IUexKHSL.r09/9g8e1yEVsswgKUpBvhmn."),
    (NFC, "$2a$04$/tbPb8/mfA4DB3o5wCpWUOtQSHL4yXX.LEPly6VHHVPX1dSXEGbb6"),
    (NFC, "$2b$04$JpoSKaP1QGqU2jfHjBscTONxU5qBo/fNt6gFNUlRe42a0AEplBZqu"),
    (NFC, "$2y$04$VY2xs3yD.YdZTDXHWqjWW.3SldsvtM6Ic7sQoNT2q/0lOvkv2oqEy"),
    (LONG, "$2a$04$dCqqKA80wN1QYr5XTrCWEOgv8Yl5icmXL/Gb5GarZAKaZfNGRlRZC"),
    (LONG, "$2b$04$6anSFKcwJm8cNF74HDC7IuoOmtZwRzuhrs/HFlc6qG7Uv.lvoRh.q"),
    (LONG, "$2y$04$fyeLQemIqsoWo3/c7aqIg./1kgg8QllHhgPq0HKS9v2nj3AvFBMaG"),
    ("  two  ", "$2a$04$03pIvtv3LBjSKui6x.L/ZugajGUbHL78sseAvsus42.RcH5Y.04X2"),
    ("  two  ", "$2b$04$LcYNLvVOLl0p8PWh8Y6GrOcd//E/0RYBf3qwe/OprK.ztfLi2hkm2"),
    ("  two  ", "$2y$04$UmSHWtzd4X.HeEtnLCm0YOH5lvU1TQ2lI/j4704rXTIwnaiY46QAS"),
    ("🍷 trocken", "$2a$04$0/.gkUtSmJlpxadMUh3ZyOhAmg53ScrgC.0AeFFCIJcSqOfbHuc8O"),
    ("🍷 trocken", "$2b$04$5wb1sNnhtWOpLztid86uTu20h5qpfEM2zkUEgk0xpcNRsjoofo9cu"),
    ("🍷 trocken", "$2y$04$NZsIyyayGl3gCUzjkcNZduSroD4q4Go8ClFsqpAvs3E.4uQNgCsS6"),
    ("hunter2", "pbkdf2_sha256$7$RQdcgxNqh44h$LIQWmcB/tEGVQyBGfUgkFG5XuNmoCRLR9cL8+2CUUns="),
    ("hunter2", "pbkdf2_sha1$7$bPe5xQ1iBpmD$Fk8NdE/WwrjVzMOKadzwqk1ZCXo="),
    ("hunter2", "bcrypt$$2b$05$79DWB7eryPKQyhp9zMiNB.T0WibIcl6FIfk6rmQGKtet.aYGr76Cq"),
    ("hunter2", "bcrypt_sha256$$2b$05$ngxhemFwoOkVLjX5NBuULes5nib65/m/.qVgOWrZ80yWdYcucNHUq"),
];

/// By passlib 1.7.4: `django_salted_md5.hash`, `django_salted_sha1.hash`, `hex_md5.hash`.
const PASSLIB_WEAK: [(&str, &str); 3] = [
    ("hunter2", "md5$nwKbZqkINQXn$cc9853cfc2fb9e4d0051182a1c5cbc12"),
    ("hunter2", "sha1$rQyaoICrh2zX$fad0dbcca961b8ab882d198ab45171968d4baa2c"),
    ("hunter2", "2ab96390c7dbe3439de74d0c9b0b1767"),
];

/// By Go 1.19 and golang.org/x/crypto 0.4: `bcrypt.GenerateFromPassword([]byte(password), 4)`.
const GO: [(&str, &str); 8] = [
    ("hunter2", "$2a$04$PK0ZJQl7oAiYSXaNN.iA0OpNgK4xGv8msPsmJus6Evm3jLyGtCmPy"),
    ("before\0after", "$2a$04$uwn5Mc9YHKMdSL76xwETSeWFzTSp0asmeG4IM9K6NDyQZcKfrfvvq"),
    ("\0", "$2a$04$29LP3IeREFJgdJ4i.FkXoeZ6Q1bSG0eueN6a8x0DlqHQGqkDGXXUC"),
    (NFC, "$2a$04$JA/eG97zES1gNkqcCOZVjO5kOApvHrstKLglvn9EUXrd.K19AvCP2"),
    ("cafe\u{301}s", "$2a$04$BC.BPMZW7lj6WoeVOxf5oODJaXOzvNy43ZPrnrrgKVMWQSctO9Bfi"),
    (S72, "$2a$04$VwuDq8qgQy71pOStjbWUPuuEBOQkxPA4TXghV1T/K9megfjnx7QsW"),
    (UMLAUTS, "$2a$04$vWvDH/cshPDm2P5y0.HqOeJBDGHiYmUdg1GpGS4g.peEEnSgpmOGq"),
    ("  two  ", "$2a$04$U1ekdrF7EJCJVJNIQ9faf.k1YIPMERBTgDOLd7preh0tL5U0NrNNK"),
];

/// By argon2-cffi 25.1.0: `low_level.hash_secret(b"hunter2", b"somesalt", …, version=version)`.
const ARGON2_CFFI: [(&str, &str); 6] = [
    ("hunter2", "$argon2i$v=16$m=64,t=1,p=1$c29tZXNhbHQ$Aj9pixLbD2giRjh5ji4SkVZgszFyHwpJtbJjfKtwy+0"),
    ("hunter2", "$argon2i$v=19$m=64,t=3,p=4$c29tZXNhbHQ$VCoJfM668EdQQVCPDYvs0SShuasjd5S+zGKx3I/jgok"),
    ("hunter2", "$argon2i$v=19$m=1024,t=2,p=2$c29tZXNhbHQ$89VGlFeTxeM00jDpAK8UkykAWcl+ZdmZro/K0x29RSo"),
    ("hunter2", "$argon2id$v=16$m=64,t=1,p=1$c29tZXNhbHQ$mrD4ebGXAm/iwPGB1eSGGzXQjxOzbrl31yckg2GhPv8"),
    ("hunter2", "$argon2id$v=19$m=64,t=3,p=4$c29tZXNhbHQ$Eq6EOiNsFcAqHikmrmWAVtp0vIQh69lFhYH4g95uUzI"),
    ("hunter2", "$argon2id$v=19$m=1024,t=2,p=2$c29tZXNhbHQ$rVT1OByOi/FxWnZv5xshx1ex69KEtDrPd6Pii7EP4H4"),
];

/// By PocketBase 0.40.6 and, the last, 0.22.27, through their API.
const POCKETBASE: [(&str, &str); 5] = [
    ("Spätburgunder 🍷 trocken", "$2a$10$Ky7hm2IHAJQ7VwIm3TWk.eCf2ZRGqUTewVn/9ShzVKswTr1UbsrP."),
    ("  spaces around  ", "$2a$10$TEaTUQpn8K0VTmXUriNdsuUJ8R4yC/tQe3YRMJVewrHU.wcE6S6Sy"),
    (UMLAUTS, "$2a$10$A7PKB7ux/3.kSsVSkisSg.vGXkJPwlOIT.yIKQDtKCHztQney5xjW"),
    ("nul\0inside 1", "$2a$10$JFYy8iN5sFjz2Ued57zKke3R3fU7fDqIGzPNuLOpnZA.zzqUFpRBC"),
    ("before 0.23 one", "$2a$12$Dhb4AtiH7MYY4aGNwhIgYuZ2Vzg95CmZsU9aZQWfCp3W5Ei0Ka2wS"),
];

/// As Supabase stores them, by pgcrypto, Go and argon2: `crypt(password, gen_salt('bf', 10))` and the like.
const SUPABASE: [(&str, &str); 6] = [
    (
        "Riesling 10",
        "$argon2id$v=19$m=19456,t=2,p=1$NilAzdjvIPi4Z9qgMGXliw$D0Q0I7F/xoQVwNHPfJJy99rPzBYAamQTpJv5XjK9W2s",
    ),
    ("Riesling 13", "$2a$04$FPrfiGNkf4rm6eYznehmX.tuebNCtkeyLhJpT.PH09l0maxmTMncO"),
    ("Riesling 14", "$2b$12$4/hFUytk0TjXIaxihrFbbebPH.ivV7IIw2Zt2N6y/bU69XDAZT5L2"),
    ("Riesling 15", "$2y$10$/6HJAqS2h/fZR.D.3aAcvuGo5P2LVB2W6G5.Hvt5MNwmn0Onk4EFe"),
    ("µ-Wein ☃ Flasche", "$2a$10$89xHGizPpgjNuzFShNVH1eRLn/iGbl7bLc215yLfxfsuNLkJpVDIK"),
    ("  Riesling 18  ", "$2a$10$iIC/J0d7VJiYJEEe3ZK2DOVPCiPvrGszftosGOsiJfOr3I2lR2OIy"),
];

fn plain(text: &str) -> PlainPassword {
    let text = match text {
        S72 => "s".repeat(72),
        S73 => "s".repeat(73),
        LONG => "x".repeat(4_096),
        UMLAUTS => "\u{fc}".repeat(36),
        text => text.to_owned(),
    };
    PlainPassword::parse("password", text).unwrap()
}

fn stored(text: &str) -> Box<dyn StoredHash> {
    parse(text).unwrap_or_else(|| panic!("{text} is not read"))
}

/// Whether bcrypt reads the password itself, of which 72 bytes count.
fn is_bare_bcrypt(text: &str) -> bool {
    ["bcrypt$", "$2"].iter().any(|prefix| text.starts_with(prefix))
}

/// Every hash is read, is opened by its password, and is stored as it came.
fn opens(hashes: &[(&str, &str)]) {
    for (password, text) in hashes {
        assert!(stored(text).verify(&plain(password)), "{password:?} does not open {text}");
        assert!(is_well_formed(&PasswordHash::from_stored((*text).to_owned())), "{text}");
        let (_, imported) = read_imported(text);
        let ImportedHash::Verifiable { hash, work } = imported else { panic!("{text} is not imported") };
        assert!(hash.as_stored() == *text && work == stored(text).work(), "{text}");
    }
}

/// No other password opens it, not even one that nearly is the same.
fn is_opened_by_no_other(hashes: &[(&str, &str)]) {
    for (password, text) in hashes {
        let whole = plain(password).as_str().to_owned();
        let mut others = vec![format!("y{whole}"), format!("\0{whole}")];
        // Neither what is behind the 72nd byte counts to bcrypt, nor how often a key with NULs is repeated; and to HMAC,
        // under PBKDF2 and scrypt, no NULs at the end do.
        if !is_bare_bcrypt(text) || whole.len() < 72 {
            others.push(format!("{whole}y"));
        }
        if !is_bare_bcrypt(text) {
            others.push(format!("{whole}\0{whole}"));
        }
        others.extend(whole.split_once('\0').map(|(before, _)| format!("{before}?")));
        others.extend([NFC, NFD].iter().filter(|spelling| **spelling != whole).map(|&spelling| spelling.to_owned()));
        for other in others {
            assert!(other == "\0\0" || !stored(text).verify(&plain(&other)), "{other:.40?} opens {text}");
        }
    }
}

#[test]
fn hashes_made_by_django_open_with_their_passwords_and_no_other() {
    opens(&DJANGO);
    is_opened_by_no_other(&DJANGO);
}

/// Those made by Django at its own costs, of PBKDF2 or of the others: on two threads they take half as long.
fn at_its_own_costs(is_pbkdf2: bool) -> Vec<(&'static str, &'static str)> {
    let all = DJANGO_AT_ITS_OWN_COSTS.iter();
    all.filter(|(_, text)| text.starts_with("pbkdf2_") == is_pbkdf2).copied().collect()
}

#[test]
fn pbkdf2_hashes_made_by_six_releases_of_django_at_their_own_costs_open_with_their_passwords() {
    opens(&at_its_own_costs(true));
}

#[test]
fn other_hashes_made_by_six_releases_of_django_at_their_own_costs_open_with_their_passwords() {
    opens(&at_its_own_costs(false));
}

#[test]
fn hashes_made_by_passlib_go_and_argon2_cffi_open_with_their_passwords_and_no_other() {
    for hashes in [&PASSLIB[..], &GO, &ARGON2_CFFI] {
        opens(hashes);
        is_opened_by_no_other(hashes);
    }
}

#[test]
fn hashes_made_by_pocketbase_and_supabase_open_with_their_passwords() {
    opens(&POCKETBASE);
    opens(&SUPABASE);
    // As PocketBase answered itself.
    let (_, of_umlauts) = POCKETBASE.iter().find(|(password, _)| *password == UMLAUTS).unwrap();
    assert!(stored(of_umlauts).verify(&plain(&("\u{fc}".repeat(36) + " and more"))));
    let (_, with_nul) = POCKETBASE.iter().find(|(password, _)| password.contains('\0')).unwrap();
    assert!(!stored(with_nul).verify(&plain("nul")));
}

#[test]
fn of_a_bare_bcrypt_72_bytes_count_and_of_a_digested_one_all() {
    for (password, text) in DJANGO.iter().filter(|(password, _)| [S72, S73].contains(password)) {
        let other = if *password == S72 { S73 } else { S72 };
        assert_eq!(stored(text).verify(&plain(other)), text.starts_with("bcrypt$"), "{text}");
    }
}

#[test]
fn weak_digests_are_told_by_kind_and_open_once_they_are_wrapped() {
    for (password, text) in DJANGO_WEAK.iter().chain(&PASSLIB_WEAK) {
        let (kind, imported) = read_imported(text);
        assert!(imported == ImportedHash::Weak, "{text}");
        let is_unsalted = !text.contains('$') || text.contains("$$");
        let algorithm = if text.starts_with("sha1$") { "sha1" } else { "md5" };
        assert_eq!(kind, if is_unsalted { format!("unsalted_{algorithm}") } else { algorithm.to_owned() });
        assert!(parse(text).is_none(), "{text} is verified as it is");

        let wrapped = super::wrap(&WeakDigest::parse(text).unwrap(), 4).0;
        assert!(
            wrapped.as_stored().starts_with(&format!("$wrapped-{algorithm}$")) && is_well_formed(&wrapped),
            "{text}"
        );
        let digest = text.rsplit('$').next().unwrap();
        assert!(!wrapped.as_stored().contains(digest), "the weak digest is still there");
        assert!(stored(wrapped.as_stored()).verify(&plain(password)), "{text}");
        for other in [&format!("{password}x"), digest, text] {
            assert!(!stored(wrapped.as_stored()).verify(&plain(other)), "{other:?} opens {text}");
        }
        assert!(read_imported(wrapped.as_stored()).1 == ImportedHash::Unknown, "no source has wrapped ones");
    }
    assert!(WeakDigest::parse("md5$$2AB96390C7DBE3439DE74D0C9B0B1767").is_none());
    assert!(WeakDigest::parse("2ab96390c7dbe3439de74d0c9b0b176").is_none());
    assert!(WeakDigest::parse("sha1$a$2ab96390c7dbe3439de74d0c9b0b1767").is_none());
}

#[test]
fn what_cannot_be_imported_is_told_by_kind() {
    let encrypted = r#"{"key_id":"k1","alg":"aes-gcm-hkdf","data":"","nonce":""}"#;
    for (text, kind, expected) in [
        ("", "none", ImportedHash::Absent),
        ("!", "unusable", ImportedHash::Absent),
        ("!DQeAAjqmtGaWp4CuaIisGa5O9ws53AzX3mVP21FB", "unusable", ImportedHash::Absent),
        ("x", "unknown", ImportedHash::Unknown),
        ("pbkdf2_wrapped_sha1$1000$a$AAAA", "unknown", ImportedHash::Unknown),
        ("$2x$04$goPrCnVXBYXT9eQgDAhM1OfHEr31Lx6m1o.19rV6IlEP9hh9x8jyi", "unknown", ImportedHash::Unknown),
        ("crypt$$wYZAUTYpLkJ86", "crypt", ImportedHash::Refused),
        ("$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,sk=A==$B", "fbscrypt", ImportedHash::Refused),
        ("pbkdf2_sha256$x", "pbkdf2_sha256", ImportedHash::Refused),
        (encrypted, "encrypted", ImportedHash::Encrypted),
    ] {
        let (told, imported) = read_imported(text);
        assert!(told == kind && imported == expected, "{text}");
    }
    for (text, kind) in [
        (DJANGO_AT_ITS_OWN_COSTS[0].1, "pbkdf2_sha256"),
        (DJANGO_AT_ITS_OWN_COSTS[1].1, "pbkdf2_sha1"),
        (DJANGO_AT_ITS_OWN_COSTS[2].1, "bcrypt_sha256"),
        (DJANGO_AT_ITS_OWN_COSTS[3].1, "bcrypt"),
        (ARGON2_CFFI[0].1, "argon2_phc"),
        (GO[0].1, "bcrypt_plain"),
    ] {
        assert_eq!(read_imported(text).0, kind);
    }
}

#[test]
fn a_cost_beyond_the_bounds_or_a_text_of_another_form_is_not_read() {
    let sha256 = "DOGauSZInRJz$phJMl0CqQua0wPTBRPowRbSzb6bdOpS8rPcdTosA6WQ=";
    let scrypt = "b2lkk2HodeRDPMkAu6xidkawmxeLIqC3xYFQIr4m3XUMq2DksOmoTBQ1dxw5ZVIZQ/YOW/gKSiXsMMmUH1a8sw==";
    let bcrypt = "goPrCnVXBYXT9eQgDAhM1OfHEr31Lx6m1o.19rV6IlEP9hh9x8jyi";
    let argon2 = "c29tZXNhbHQ$rVT1OByOi/FxWnZv5xshx1ex69KEtDrPd6Pii7EP4H4";
    for taken in [
        format!("pbkdf2_sha256$10000000${sha256}"),
        format!("scrypt$65536$a$16$1${scrypt}"),
        format!("scrypt$2$a$1$524288${scrypt}"),
        format!("$2b$15${bcrypt}"),
        format!("$argon2id$v=19$m=262144,t=10,p=255${argon2}"),
        format!("argon2$argon2i$m=8,t=1,p=1${argon2}"),
    ] {
        assert!(parse(&taken).is_some(), "{taken}");
    }
    for refused in [
        format!("pbkdf2_sha256$10000001${sha256}"),
        format!("pbkdf2_sha256$4294967297${sha256}"),
        format!("pbkdf2_sha256$0${sha256}"),
        format!("pbkdf2_sha256$+1${sha256}"),
        format!("pbkdf2_sha256$01${sha256}"),
        format!("pbkdf2_sha256$${sha256}"),
        format!("pbkdf2_sha256$1${sha256}$"),
        format!("pbkdf2_sha1$1${sha256}"),
        format!("pbkdf2_sha256$1${}{sha256}", "s".repeat(120)),
        "pbkdf2_sha256$1$$phJMl0CqQua0wPTBRPowRbSzb6bdOpS8rPcdTosA6WQ=".to_owned(),
        // The last two bits of the digest are not zero: another text of the same bytes.
        "pbkdf2_sha256$1$a$phJMl0CqQua0wPTBRPowRbSzb6bdOpS8rPcdTosA6WR=".to_owned(),
        format!("scrypt$131072$a$16$1${scrypt}"),
        format!("scrypt$1048576$a$1048576$1048576${scrypt}"),
        format!("scrypt$1$a$8$1${scrypt}"),
        format!("scrypt$3$a$8$1${scrypt}"),
        format!("scrypt$16$a$0$1${scrypt}"),
        format!("scrypt$16$a$8$0${scrypt}"),
        format!("scrypt$16$$8$1${scrypt}"),
        format!("$2b$16${bcrypt}"),
        format!("$2b$03${bcrypt}"),
        format!("$2b$4${bcrypt}"),
        format!("$2b$+4${bcrypt}"),
        format!("$2b$04${bcrypt}."),
        format!("bcrypt$2b$04${bcrypt}"),
        format!("bcrypt$bcrypt_sha256$$2b$04${bcrypt}"),
        format!("$argon2id$v=19$m=262145,t=1,p=1${argon2}"),
        format!("$argon2id$v=19$m=64,t=11,p=1${argon2}"),
        format!("$argon2id$v=19$m=64,t=0,p=1${argon2}"),
        format!("$argon2id$v=19$m=64,t=1,p=0${argon2}"),
        format!("$argon2id$v=19$m=64,t=1,p=9${argon2}"),
        format!("$argon2id$v=19$m=4096,t=1,p=256${argon2}"),
        format!("$argon2id$v=18$m=64,t=1,p=1${argon2}"),
        format!("$argon2id$v=19$m=64,t=1,p=1,keyid=a${argon2}"),
        format!("$argon2id$v=19$t=1,m=64,p=1${argon2}"),
        format!("$argon2d$v=19$m=64,t=1,p=1${argon2}"),
        format!("argon2argon2id$v=19$m=64,t=1,p=1${argon2}"),
        "$argon2id$v=19$m=64,t=1,p=1$c29tZQ$rVT1OByOi/FxWnZv5xshx1ex69KEtDrPd6Pii7EP4H4".to_owned(),
        "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$rVT1".to_owned(),
        "$wrapped-md5$b$$bcrypt-sha256$v=2,t=2b,r=4$QexDYaiSw.PMflDlGeyERe$0JhXa2JmpMTbORvBDFxYcs2.SN09JvW".to_owned(),
        "$wrapped-md5$$bcrypt-sha256$v=2,t=2b,r=17$QexDYaiSw.PMflDlGeyERe$0JhXa2JmpMTbORvBDFxYcs2.SN09JvW".to_owned(),
        "$wrapped-md4$$bcrypt-sha256$v=2,t=2b,r=4$QexDYaiSw.PMflDlGeyERe$0JhXa2JmpMTbORvBDFxYcs2.SN09JvW".to_owned(),
    ] {
        assert!(parse(&refused).is_none(), "{refused}");
    }
}

#[test]
fn a_salt_whose_unused_bits_are_set_is_kept_as_it_is() {
    // Of the salt's last character only two bits count.
    let (password, text) = GO[0];
    let (front, rest) = text.split_at("$2a$04$".len() + 21);
    let unused = [(".", "/"), ("O", "P"), ("e", "f"), ("u", "v")];
    let (last, other) = unused.into_iter().find(|(last, _)| rest.starts_with(last)).unwrap();
    let other = format!("{front}{other}{}", &rest[last.len()..]);
    assert!(stored(&other).verify(&plain(password)));
    assert_eq!(stored(&other).encode().as_stored(), other);
}

/// Texts that nearly are hashes: real ones with some characters changed, and numbers in place of theirs.
fn nearly_hashes() -> impl Strategy<Value = String> {
    let all: Vec<&str> = [&DJANGO[..], &DJANGO_AT_ITS_OWN_COSTS, &PASSLIB, &GO, &ARGON2_CFFI, &DJANGO_WEAK]
        .iter()
        .flat_map(|hashes| hashes.iter().map(|(_, text)| *text))
        .collect();
    let with = prop_oneof!["[0-9]{1,21}", "[$,=.+/A-Za-z0-9]{0,3}", "\\PC{1,2}", Just("4294967295".to_owned())];
    (proptest::sample::select(all), any::<proptest::sample::Index>(), 0..12_usize, with).prop_map(
        |(text, at, long, with)| {
            let chars: Vec<char> = text.chars().collect();
            let at = at.index(chars.len());
            let end = (at + long).min(chars.len());
            chars[..at].iter().collect::<String>() + &with + &chars[end..].iter().collect::<String>()
        },
    )
}

/// Whatever is read stays within the bounds, and is stored as it came.
fn is_bounded_or_refused(text: &str) {
    if let Some(parsed) = parse(text) {
        assert_eq!(parsed.encode().as_stored(), text);
        assert!(parsed.memory() <= 257 << 20 && parsed.work() <= 1 << 17, "{text}");
    }
    let _ = read_imported(text);
}

proptest! {
    #[test]
    fn no_text_makes_a_parser_panic_or_read_a_cost_beyond_the_bounds(text in "\\PC{0,80}") {
        is_bounded_or_refused(&text);
    }

    #[test]
    fn nor_does_a_text_that_nearly_is_a_hash(text in nearly_hashes()) {
        is_bounded_or_refused(&text);
    }
}
