# One image for every program of Edict; the command says which: serve pdp, serve audit, migrate, ledger, keys …
FROM node:22.20.0-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY tsconfig.json ./
COPY services ./services
RUN npx tsc && npm prune --omit=dev

FROM node:22.20.0-bookworm-slim
ENV NODE_ENV=production
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY migrations ./migrations
COPY bundles ./bundles
# Everything that a program writes lies here; it belongs to the user that the image comes with.
RUN install -d -o node -g node -m 0700 /var/lib/edict /var/lib/edict-signer
ENV EDICT_HOME=/var/lib/edict
USER 1000:1000
VOLUME /var/lib/edict
EXPOSE 7180 7181
ENV EDICT_HEALTH_URL=http://127.0.0.1:7180/health/ready
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["node", "-e", "fetch(process.env.EDICT_HEALTH_URL).then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "/app/dist/services/cli/main.js"]
CMD ["serve", "pdp"]
