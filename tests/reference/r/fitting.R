# Knots, weighted fits, profile limits, backward elimination and survival intervals on data with ties at every turn.
# R 4.2.2, survival 3.5-3, rms 6.5-0, Hmisc 4.8-0, MASS 7.3-58.   Rscript fitting.R data out
suppressMessages({library(rms); library(MASS); library(jsonlite)})
folder <- commandArgs(TRUE)
exact <- glm.control(epsilon = 1e-14, maxit = 100)

set.seed(1)
vectors <- list(
  floor = c(rep(0, 30), round(rexp(200, .1), 1)), ceiling = c(round(rnorm(150, 50, 9)), rep(90, 20)),
  both = c(rep(0, 20), round(runif(120, 1, 40), 1), rep(41, 15)), small = round(rnorm(60, 5, 2), 1),
  small_floor = c(rep(0, 8), round(rexp(50), 2)), inner = c(rep(10, 40), round(runif(100, 0, 20), 1)),
  few = rep(1:7, c(30, 20, 30, 40, 20, 10, 30)), six = c(1.5, 2, 3.25, 5, 8, 13, 21, 34))
knots <- lapply(vectors, function(x) {
  out <- lapply(3:7, function(k) tryCatch(suppressWarnings(rcspline.eval(x, nk = k, knots.only = TRUE)),
                                          error = function(e) NULL))
  names(out) <- paste0("k", 3:7)
  list(x = x, knots = lapply(out, unname))
})

n <- 160
D <- data.frame(x1 = round(rnorm(n), 2), x2 = rbinom(n, 1, .12), x3 = sample(0:3, n, TRUE), x4 = round(rexp(n), 2),
                x5 = round(rnorm(n), 1), x6 = rbinom(n, 1, .5), w = sample(0:3, n, TRUE), o = round(rnorm(n, 0, .5), 2))
D$y <- rbinom(n, 1, plogis(-1 + .7 * D$x1 + 1.2 * D$x2 - .4 * D$x3))
D$time <- ceiling(12 * rexp(n, exp(.4 * D$x1 - .3 * D$x6))) / 12
D$event <- rbinom(n, 1, .7)
columns <- paste0("x", 1:6)
glm_fit <- function(data, weights = rep(1, nrow(data))) {
  fit <- suppressWarnings(glm(reformulate(columns, "y"), binomial, data, weights = weights, offset = o, control = exact))
  limits <- suppressMessages(confint(fit, level = .9))
  list(coef = unname(coef(fit)), vcov = unname(vcov(fit)), deviance = fit$deviance, null = fit$null.deviance,
       low = unname(limits[, 1]), high = unname(limits[, 2]))
}
repeated <- D[rep(seq_len(n), D$w), ]
elimination <- list()
full <- lrm(y ~ x1 + x2 + catg(x3) + x4 + x5 + x6, D, x = TRUE, y = TRUE, eps = 1e-12, tol = 1e-14, maxit = 50)
surv <- cph(Surv(time, event) ~ x1 + x2 + catg(x3) + x4 + x5 + x6, D, x = TRUE, y = TRUE, eps = 1e-12, tol = 1e-14)
for (model in c("logistic", "cox")) for (rule in c("aic", "p")) for (type in c("residual", "individual")) for (sls in c(.05, .3)) {
  z <- fastbw(if (model == "logistic") full else surv, rule = rule, type = type, sls = sls)
  table <- z$result
  elimination[[length(elimination) + 1]] <- list(model = model, rule = rule, type = type, sls = sls,
    kept = I(z$names.kept), removed = I(if (is.null(table)) character() else rownames(table)),
    chisq = I(if (is.null(table)) numeric() else unname(table[, "Chi-Sq"])),
    residual = I(if (is.null(table)) numeric() else unname(table[, "Residual"])),
    aic = I(if (is.null(table)) numeric() else unname(table[, "AIC"])))
}
cox_fit <- function(data, ties, weights = rep(1, nrow(data))) {
  data$ww <- weights
  fit <- coxph(reformulate(columns, "Surv(time, event)"), data, weights = ww, ties = ties,
               control = coxph.control(eps = 1e-12, toler.chol = 1e-15, iter.max = 50))
  s <- survfit(fit, newdata = D[1:4, ], conf.type = "log-log", se.fit = TRUE)
  at <- summary(s, times = c(.25, .5, 1))
  list(coef = unname(coef(fit)), vcov = unname(fit$var), loglik = fit$loglik, score = fit$score,
       robust = if (all(weights == 1)) unname(coxph(reformulate(columns, "Surv(time, event)"), data, ties = ties,
         robust = TRUE, cluster = x3, control = coxph.control(eps = 1e-12, toler.chol = 1e-15, iter.max = 50))$var),
       surv = unname(at$surv), se = unname(at$std.err), low = unname(at$lower), high = unname(at$upper),
       martingale = unname(residuals(fit, "martingale")), score_residuals = unname(residuals(fit, "score")))
}
out <- list(knots = knots, data = D,
  logistic = glm_fit(D), logistic_repeated = glm_fit(repeated), elimination = elimination,
  efron = cox_fit(D, "efron"), breslow = cox_fit(D, "breslow"), efron_repeated = cox_fit(repeated, "efron"),
  breslow_weights = cox_fit(subset(D, w > 0), "breslow", subset(D, w > 0)$w))
write(toJSON(out, digits = I(15), auto_unbox = TRUE, null = "null", na = "null"), file.path(folder[2], "fitting.json"))
