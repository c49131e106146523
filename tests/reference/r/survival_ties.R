# Survival statistics on two simulated samples, one with heavily tied times, and calibration of a Cox model on GBSG.
# R 4.2.2, survival 3.5-3, riskRegression 2022.11.28, rms 6.5-0.   Rscript survival_ties.R data out
suppressMessages({library(survival); library(riskRegression); library(rms); library(jsonlite)})
folder <- commandArgs(TRUE)
exact <- coxph.control(eps = 1e-11, toler.chol = 1e-14, iter.max = 50)

simulate <- function(seed, n, grid) {
  set.seed(seed)
  x <- round(rnorm(n), 3); x2 <- round(rnorm(n)); t <- rexp(n, exp(.7 * x + .3 * x2)); c <- rexp(n, .6)
  data.frame(time = ceiling(pmin(t, c) * grid) / grid, event = as.integer(t <= c), x = x, x2 = x2,
             p = round(plogis(x - .5), 4), p2 = round(plogis(x2 + .3 * rnorm(n)), 1),
             patient = rep(1:ceiling(n / 3), 3)[1:n], whole = sample(0:3, n, TRUE), real = round(runif(n), 3),
             g = sample(c("a", "b", "c"), n, TRUE), s = sample(1:3, n, TRUE),
             cause = sample(0:2, n, TRUE, c(.3, .5, .2)))
}
curve <- function(fit) {
  s <- summary(fit, censored = TRUE); q <- function(p) unname(unlist(quantile(fit, p)))
  list(times = s$time, at_risk = s$n.risk, survival = s$surv, se = s$std.err, low = s$lower, high = s$upper,
       median = q(.5), quartile = q(.25))
}
pairs <- function(z) {
  list(value = unname(z$concordance), variance = unname(z$var), counts = unname(z$count))
}
rank <- function(z) list(chi2 = z$chisq, observed = rowSums(as.matrix(z$obs)), expected = rowSums(as.matrix(z$exp)))
one <- function(D, horizons) {
  y <- Surv(time, event) ~ 1
  influence <- function(f) concordance(f, D, reverse = TRUE, influence = 1)$dfbeta
  k <- length(horizons)
  S <- Score(list(p = matrix(rep(D$p, k), ncol = k), p2 = matrix(rep(D$p2, k), ncol = k)), formula = y, data = D,
             times = horizons, cens.model = "km", metrics = c("auc", "brier"), summary = "ipa", conf.int = TRUE)
  cox <- coxph(Surv(time, event) ~ x + x2 + factor(g), D, control = exact)
  D$state <- factor(D$cause, 0:2); aj <- summary(survfit(Surv(time, state) ~ 1, D), times = sort(unique(D$time)))
  list(data = D, horizons = horizons,
    harrell = pairs(concordance(Surv(time, event) ~ x2, D, reverse = TRUE)),
    harrell_tau = pairs(concordance(Surv(time, event) ~ x, D, ymax = horizons[2], reverse = TRUE)),
    harrell_weights = pairs(concordance(Surv(time, event) ~ x2, D, weights = real, reverse = TRUE)),
    harrell_cluster = pairs(concordance(Surv(time, event) ~ x2, D, cluster = patient, reverse = TRUE)),
    uno = pairs(concordance(Surv(time, event) ~ x2, D, timewt = "n/G2", reverse = TRUE)),
    uno_tau = pairs(concordance(Surv(time, event) ~ x, D, timewt = "n/G2", ymax = horizons[2], reverse = TRUE)),
    difference_variance = sum((influence(Surv(time, event) ~ x) - influence(Surv(time, event) ~ x2))^2),
    auc = S$AUC$score, brier = S$Brier$score, auc_contrast = S$AUC$contrasts, brier_contrast = S$Brier$contrasts,
    km = curve(survfit(y, D)), km_loglog = curve(survfit(y, D, conf.type = "log-log")),
    km_plain = curve(survfit(y, D, conf.type = "plain")), km_cluster = curve(survfit(y, D, cluster = patient)),
    km_whole = curve(survfit(y, D[D$whole > 0, ], weights = whole)), km_real = curve(survfit(y, D, weights = real)),
    logrank = list(plain = rank(survdiff(Surv(time, event) ~ g, D)),
                   strata = rank(survdiff(Surv(time, event) ~ g + strata(s), D)),
                   peto_strata = rank(survdiff(Surv(time, event) ~ g + strata(s), D, rho = .5))),
    rmst = unname(summary(survfit(y, D), rmean = horizons[2])$table[c("rmean", "se(rmean)")]),
    zph = lapply(c(km = "km", identity = "identity", rank = "rank", log = "log"),
                 function(tr) unname(cox.zph(cox, transform = tr)$table)),
    schoenfeld = unname(residuals(cox, "schoenfeld")), scaled = unname(residuals(cox, "scaledsch")),
    incidence = list(times = aj$time, p = unname(aj$pstate), se = unname(aj$std.err), low = unname(aj$lower),
                     high = unname(aj$upper)))
}
a <- read.csv(file.path(folder[1], "rotterdam_train_prepared.csv"))
b <- read.csv(file.path(folder[1], "gbsg_test_prepared.csv"))
model <- coxph(Surv(time, status) ~ age + nodes + grade3 + hormon + lpgr, a, x = TRUE, control = exact)
calibration <- lapply(c("2" = 2, "5" = 5), function(h) {
  p <- 1 - as.numeric(summary(survfit(model, newdata = b), times = h)$surv)
  d <- data.frame(time = b$time, status = b$status, lp = predict(model, b), z = log(-log(1 - p)))
  smooth <- cph(Surv(time, status) ~ rcs(z, 3), d, x = TRUE, y = TRUE, surv = TRUE, eps = 1e-11)
  distance <- abs(1 - survest(smooth, newdata = d, times = h)$surv - p)
  grid <- seq(quantile(p, .01), quantile(p, .99), length = 100)
  knots <- as.numeric(attr(rcs(d$z, 3), "parms"))
  again <- coxph(Surv(time, status) ~ rcspline.eval(z, knots, inclx = TRUE), d, control = exact)
  band <- summary(survfit(again, newdata = data.frame(z = log(-log(1 - grid))), conf.type = "log-log"), times = h)
  km <- summary(survfit(Surv(time, status) ~ 1, d), times = h)
  slope <- coxph(Surv(time, status) ~ lp, d, control = exact)
  large <- survfit(coxph(Surv(time, status) ~ offset(z), d), newdata = data.frame(z = 0), stype = 2, ctype = 2)
  i <- findInterval(h, large$time)
  list(risk = p, lp = unname(d$lp), ici = mean(distance), e50 = unname(quantile(distance, .5)),
       e90 = unname(quantile(distance, .9)), emax = max(distance), knots = knots,
       band_low = 1 - as.numeric(band$upper), band_high = 1 - as.numeric(band$lower), curve = 1 - as.numeric(band$surv),
       observed = 1 - km$surv, observed_se = km$std.err, oe = (1 - km$surv) / mean(p),
       slope = unname(coef(slope)), slope_se = sqrt(vcov(slope)[1]), hazard = large$cumhaz[i],
       hazard_se = large$std.chaz[i])
})
write(toJSON(list(untied = one(simulate(1, 120, 1e6), c(.3, .8)), tied = one(simulate(2, 150, 8), c(.5, 1)),
                  coarse = one(simulate(3, 60, 4), c(.5, 1)), calibration = calibration),
             digits = 15, na = "null", auto_unbox = TRUE), file.path(folder[2], "survival_ties.json"))
